"""One push, from its target to its tags."""
