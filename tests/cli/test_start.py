"""What the command line imports before there is something to do: every push waits for it."""

import json
import re
import socket
import subprocess
import sys

import pytest

from tests.patience import HANG_S
from tests.program import OURS, environment
from tests.registry.parts import real_part

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


def test_a_directory_is_listed_before_records_are_imported():
    """The second process is forked from what is imported by then, and counted in memory twice."""
    script = "import sys, regpush.files.scan_ahead; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not {"msgspec", "dataclasses", "hashlib", "json"}.intersection(done.stdout.split())


def test_no_import_is_nested_so_deeply_that_each_call_maps_memory(
    embedded_registry, repository, tmp_path
):
    """Python maps and unmaps 16 KiB for each call at the end of a chunk of frames."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("print()")
    to = f"{embedded_registry.host}/{repository}"
    command = [sys.executable, *OURS, str(tmp_path / "app"), "--to", to, "--progress", "none"]
    traced = [real_part("strace"), "-f", "-qq", "-e", "trace=munmap", "-o", str(tmp_path / "calls")]
    done = subprocess.run([*traced, *command], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    sizes = re.findall(r"munmap\(0x[0-9a-f]+, (\d+)", (tmp_path / "calls").read_text())
    assert sizes
    # 12 are usual, at the ends of threads; 700 and 2,300 were seen, depending on the way to start.
    assert sizes.count("16384") < 100


INTERRUPTED = """
import signal, sys
from regpush.cli import main

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            signal.raise_signal(signal.SIGINT)

wanted = sys.argv.pop(1)
sys.meta_path.insert(0, CtrlC())
main()
"""


WAITING = """
import sys
from regpush.cli import main

class Waiting:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            sys.stdin.readline()

sys.meta_path.insert(0, Waiting())
main()
"""


@pytest.mark.parametrize("flags", [(), ("--plain-http",)])
def test_the_connection_to_the_registry_begins_before_typer_is_imported(flags, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(HANG_S)
        to = f"127.0.0.1:{server.getsockname()[1]}/app"
        program = subprocess.Popen(
            [sys.executable, "-c", WAITING, "push", str(tmp_path), "--to", to, *flags],
            stdin=subprocess.PIPE,
            env=environment(),
        )
        try:
            server.accept()[0].close()
        finally:
            program.kill()
            program.communicate()


@pytest.mark.parametrize("module", ["typer", "regpush.cli.app", "regpush.cli.commands.push"])
def test_ctrl_c_during_an_import_is_one_line(module, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, module, ".", "--to", "127.0.0.1:1/app"],
        capture_output=True, text=True, cwd=tmp_path, env=environment(),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "regpush: cancelled\n")


@pytest.mark.parametrize("library", ["httpx", "msgspec", "typer"])
def test_a_library_that_is_not_installed_is_one_line(library, tmp_path):
    missing = f"No module named '{library}'"
    (tmp_path / f"{library}.py").write_text(f"raise ModuleNotFoundError({missing!r})")
    found_first = environment() | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, *OURS, ".", "--to", "127.0.0.1:1/app"],
        capture_output=True, text=True, cwd=tmp_path, env=found_first,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("regpush: ")
    assert missing in line
