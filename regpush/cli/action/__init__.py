"""The GitHub Action, once `action.yml` has installed it: `python -m regpush.cli.action`.

Its inputs become a command line of regpush, which runs as a child process. The report of that
becomes outputs, annotations and a summary.
"""
