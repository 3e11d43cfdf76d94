"""Programs of others: what they print, why they fail, and that none outlives a push."""

import os
import threading
import time
from pathlib import Path

import pytest

from regpush.concurrency import Cancellation
from regpush.errors import CancelledError
from regpush.events import Event, ToolSaid, ignore
from regpush.sources.tools import ToolError, Workshop
from tests.patience import HANG_S


def shell(script: str) -> tuple[str, str, str]:
    return ("sh", "-c", script)


def test_stdout_is_the_answer_and_the_rest_is_for_people() -> None:
    events: list[Event] = []
    with Workshop(events.append, Cancellation()) as workshop:
        said = workshop.run(*shell("echo answer; echo one >&2; printf 'two\\nlast' >&2; echo more"))
        assert workshop.ask(*shell("echo silent >&2; echo answer")) == "answer\n"
    assert said == "answer\nmore\n"
    assert events == [ToolSaid(program="sh", line=line) for line in ("one", "two", "last")]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'error: not so' >&2; echo 'see the log' >&2; exit 1", "sh failed: not so"),
        ("echo 'x: error: a;' >&2; echo 'guix shell: error: b' >&2; exit 1", "sh failed: b"),
        ("echo 'nothing of the kind' >&2; exit 4", "sh failed: nothing of the kind"),
        ("exit 4", "sh failed: exit code 4"),
        (
            "echo \"error: Cannot build 'x.drv'.\" >&2; echo '  Reason: builder failed with exit "
            "code 3.' >&2; echo '  Last 1 log lines:' >&2; echo '  > this is why' >&2; exit 1",
            "sh failed: Cannot build 'x.drv'; Reason: builder failed with exit code 3; this is why",
        ),
        (
            "echo 'guix shell: error: no such file' >&2; echo '(failed to evaluate m.scm)' >&2; "
            "exit 1",
            "sh failed: no such file",
        ),
        (
            "echo \"guix shell: error: failed to evaluate expression '(x)':\" >&2; "
            "echo 'Unbound variable: x' >&2; exit 1",
            r"sh failed: failed to evaluate expression '\(x\)': Unbound variable: x",
        ),
        ("echo 'error: ends in a colon:' >&2; exit 1", "sh failed: ends in a colon"),
        ("printf 'error: \\033[31mred\\n' >&2; exit 1", r"sh failed: \\x1b\[31mred"),
    ],
)
def test_a_failure_is_one_line_in_the_words_of_the_program(script: str, reason: str) -> None:
    with Workshop(ignore, Cancellation()) as workshop:
        with pytest.raises(ToolError, match=rf"^{reason}$"):
            workshop.run(*shell(script))
        with pytest.raises(ToolError, match="cannot run no-such-program"):
            workshop.run("no-such-program", "--flag")


def test_much_output_on_both_ends_holds_nothing_up() -> None:
    script = "i=0; while [ $i -lt 3000 ]; do echo $i; echo error $i >&2; i=$((i+1)); done"
    with Workshop(ignore, Cancellation()) as workshop:
        assert len(workshop.run(*shell(script)).split()) == 3000


def test_what_goes_across_is_hashed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with Workshop(ignore, Cancellation()) as workshop:
        digest = workshop.convey(shell("head -c 300000 /dev/zero"), shell(f"cat > '{file}'"))
        with pytest.raises(ToolError, match="sh failed: no source"):
            workshop.convey(shell("echo 'error: no source' >&2; exit 1"), shell("cat"))
        full = shell("echo 'error: no room' >&2; exit 1")
        with pytest.raises(ToolError, match="sh failed: no room"):
            workshop.convey(shell("head -c 3000000 /dev/zero"), full)
    assert file.read_bytes() == bytes(300_000)
    # head -c 300000 /dev/zero | sha256sum
    assert digest.hex == "886715e4051e827f4fe215df3053af3f85ad0d352db2c829c7487af6d78efe30"


@pytest.mark.parametrize("script", ["exec sleep 600", "trap '' TERM; exec sleep 600"])
def test_nothing_outlives_a_push_that_was_cancelled(script: str) -> None:
    cancel = Cancellation()
    threading.Timer(0.3, cancel.cancel).start()
    began = time.monotonic()
    with Workshop(ignore, cancel) as workshop:
        kept = workshop.path("kept")
        os.makedirs(kept)
        with pytest.raises(CancelledError):
            workshop.run(*shell(f"echo 'begun' >&2; {script}"))
    assert time.monotonic() - began < HANG_S
    assert not os.path.exists(kept)


def test_a_program_beside_the_push_ends_with_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    with Workshop(ignore, Cancellation()) as workshop:
        workshop.start(*shell(f"echo $$ > '{told}'; exec sleep 60"))
        workshop.start("no-such-program")
        while not told.exists() or not told.read_text():
            time.sleep(0.01)
        pid = int(told.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
