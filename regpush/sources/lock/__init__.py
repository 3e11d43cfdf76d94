"""Packages that a lock file names by hash: fetched when their layer must be sent, and laid out."""
