"""Sources turn the targets that users name (a directory, a store path, a project) into closures."""
