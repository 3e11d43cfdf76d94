"""What refers to an image: SBOMs, provenance, signatures."""
