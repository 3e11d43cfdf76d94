"""An archive of a root file system as a target: read once, and cut into layers meanwhile."""
