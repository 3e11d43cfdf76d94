"""`python -m regpush`."""

from regpush.cli import main

main()
