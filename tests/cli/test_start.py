"""What the command line imports before there is something to do: every push waits for it."""

import json
import subprocess
import sys

import pytest

IMPORTED = """
import json, sys
from regpush.cli.app import run
try:
    code = run(sys.argv[1:], {})
except SystemExit as ended:
    code = ended.code
print(json.dumps([code or 0, sorted(sys.modules)]))
"""

# What a push works with, and nobody needs who asks for help or mistypes a flag.
WORK = {"httpx", "sqlite3", "tenacity", "regpush.registry", "regpush.transfer", "regpush.pack"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["push", "--help"], 0),
        (["push", "--help-all"], 0),
        (["plan", "--help"], 0),
        (["resolve", "--help"], 0),
        (["push", ".", "--no-such-flag"], 2),
        (["push", "."], 2),
    ],
)
def test_help_and_usage_errors_import_nothing_that_pushes(words, code, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *words], capture_output=True, text=True, cwd=tmp_path
    )
    ended, modules = json.loads(done.stdout.splitlines()[-1])
    assert ended == code, done.stderr
    assert not WORK.intersection(modules)
    # 400 are usual, of Python and typer.
    assert len(modules) < 500


INTERRUPTED = """
import sys

class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == "regpush.cli.app":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
from regpush.cli import main
main()
"""


def test_ctrl_c_during_the_first_imports_is_a_line_and_130():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "--help"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (130, "regpush: cancelled\n")
