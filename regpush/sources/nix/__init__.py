"""Nix's own programs at work: what installables evaluate to, building them, binary caches."""
