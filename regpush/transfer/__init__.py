"""Blobs into repositories, manifests and tags after them."""
