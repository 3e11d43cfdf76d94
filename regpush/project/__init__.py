"""The configuration file, and what a project's own files tell about it."""
