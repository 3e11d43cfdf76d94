"""Talking to registries: OCI distribution-spec, over the only HTTP client of the product."""
