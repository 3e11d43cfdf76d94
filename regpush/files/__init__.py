"""Reading files on disk: listing, ignore patterns, archives, decompression."""
