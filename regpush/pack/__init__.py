"""Packs items into a compressed tar stream, and finds layers that need no packing."""
