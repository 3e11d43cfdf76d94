"""The commands besides push and plan: each reads or writes images in registries."""
