"""The configuration file and what a project says of itself."""
