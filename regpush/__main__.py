"""Runs regpush's command line for `python -m regpush`."""

from regpush.cli import main

main()
