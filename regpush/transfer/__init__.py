"""Sending blobs into repositories, and manifests and tags after them."""
