"""Reads files on disk: listings, ignore patterns, archives, decompression."""
