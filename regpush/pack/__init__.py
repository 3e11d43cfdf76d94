"""Packing: items become a compressed tar stream."""
