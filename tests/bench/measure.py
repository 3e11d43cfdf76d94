"""What commands cost: wall time, CPU seconds, peak memory.

`run` starts this module as a small process of its own, which starts the commands: a child's
peak memory is never less than its parent's when it was forked, and this one's is 9 MB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

_TIMEOUT_S = 3600
_GLANCE_S = 0.02


@dataclass(frozen=True)
class Usage:
    """`cpu_s`: user and system seconds of the commands and the children they waited for.
    `peak_rss`: bytes, of the command that took most: its own peak and that of each process
    below it, added up, as seen 50 times a second."""

    wall_s: float
    cpu_s: float
    peak_rss: int


class CommandFailed(Exception):
    """A measured command did not end with 0; the message holds what it wrote."""


def run(
    commands: Sequence[Sequence[str]],
    *,
    environment: Mapping[str, str],
    directory: Path,
    within: Sequence[str] = (),
) -> Usage:
    """Run `commands` one after the other, and give their costs together.

    `within` is a command line that starts another one, such as `unshare`; it is not measured.
    Raises CommandFailed.
    """
    log = directory / "output"
    order = {"commands": [list(one) for one in commands], "environment": dict(environment)}
    done = subprocess.run(
        [*within, sys.executable, "-I", "-S", __file__, str(log)],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        cwd=directory,
        timeout=_TIMEOUT_S,
    )
    if done.returncode != 0:
        output = log.read_text("utf-8", "replace")[-4000:] if log.exists() else ""
        raise CommandFailed(f"{done.stderr}\n{output}")
    return Usage(**json.loads(done.stdout))


def _measure(commands: list[list[str]], environment: dict[str, str], log: str) -> Usage:
    """Raises CommandFailed, naming the command."""
    cpu_s, peak_rss = 0.0, 0
    nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    output = (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    files = [nothing, output, (os.POSIX_SPAWN_DUP2, 1, 2)]
    begin = time.perf_counter()
    for command in commands:
        child = os.posix_spawnp(command[0], command, environment, file_actions=files)
        with _watched(child) as peaks:
            _, status, used = os.wait4(child, 0)
        if status != 0:
            code = os.waitstatus_to_exitcode(status)
            raise CommandFailed(f"{' '.join(command)}: ended with {code}")
        cpu_s += used.ru_utime + used.ru_stime
        # What wait4(2) says of the command is exact, but the largest of it and all below it.
        below = sum(peak for pid, peak in peaks.items() if pid != child)
        peak_rss = max(peak_rss, used.ru_maxrss * 1024, peaks.get(child, 0) + below)
    return Usage(time.perf_counter() - begin, cpu_s, peak_rss)


@contextmanager
def _watched(root: int) -> Iterator[dict[int, int]]:
    """The peak memory of `root` and of all processes below it, in bytes by their numbers."""
    peaks: dict[int, int] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_GLANCE_S):
            pending = [root]
            while pending:
                pid = pending.pop()
                with suppress(OSError):  # it has ended
                    peaks[pid] = max(peaks.get(pid, 0), _peak(pid))
                    pending += _children(pid)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        ended.set()
        watcher.join()


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text("utf-8", "replace").splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _main() -> None:
    (log,) = sys.argv[1:]
    order = json.load(sys.stdin)
    if os.path.exists(log):
        os.unlink(log)
    try:
        usage = _measure(order["commands"], order["environment"], log)
    except CommandFailed as error:
        sys.exit(str(error))
    json.dump(asdict(usage), sys.stdout)


if __name__ == "__main__":
    _main()
