"""Read regpush's configuration file, and guess a first one from the other files of a project."""
