"""`regpush serve` as a process that runs for long."""

import subprocess
import sys

from tests.patience import HANG_S

PROGRAM = """
import gc, sys
usual = gc.get_threshold()
from regpush import cli, embedded
embedded.serve = lambda *_, **__: print(usual, gc.get_threshold())
sys.argv = ["regpush", "serve"]
cli.main()
"""


def test_a_server_collects_garbage_as_often_as_other_python_programs():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=HANG_S
    )
    usual, now = done.stdout.strip().split(") (")
    assert usual.strip("()") == now.strip("()") == "700, 10, 10", done.stderr
