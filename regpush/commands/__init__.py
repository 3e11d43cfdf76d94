"""The other verbs: each reads or writes images that exist."""
