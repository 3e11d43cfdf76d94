"""Push an application straight into an OCI registry as a layered image."""

__version__ = "0.1.0"
