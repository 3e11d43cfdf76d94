"""Reading a disk: listing, file systems, what is ignored."""
