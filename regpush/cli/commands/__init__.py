"""The commands of regpush, each in a module of its name. `cli.entries` lists them."""
