"""One module for each command, named like it; `cli.entries` lists them."""
