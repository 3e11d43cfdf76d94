"""The program of the GitHub Action: `action.yml` runs `python -m regpush.cli.action`.

The action's inputs become a command line of regpush, which runs as a child process. Its JSON report
becomes the outputs, annotations and summary of the step.
"""
