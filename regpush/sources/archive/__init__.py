"""Push a tar archive of a root file system: it is read once, and cut into layers meanwhile."""
