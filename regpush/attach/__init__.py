"""Documents that a push attaches to an image: SBOMs, SLSA provenance and cosign signatures."""
