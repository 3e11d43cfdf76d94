"""A module for each command of the command line, by its name; `cli.entries` lists them."""
