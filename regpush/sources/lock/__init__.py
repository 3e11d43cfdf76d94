"""Packages that a lock file lists with hashes: downloaded when a layer needs them, unpacked."""
