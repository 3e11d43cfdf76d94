"""Push a tar archive of a root file system, which is cut into layers while it is read, once."""
