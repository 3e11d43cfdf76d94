"""What the GitHub Action does, once `action.yml` has installed it: `python -m regpush.cli.action`.

Its inputs become a command line, which is run as anybody would; the report of that becomes
outputs, annotations and a summary.
"""
