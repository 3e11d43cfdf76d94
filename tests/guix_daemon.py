"""A real Guix (Debian sid's) with its daemon, in a chroot without a network.

Guix itself fetches its Guile and the programs of profile hooks from the network;
tests/data/guix/stand_in.py puts stand-ins for them into the store. Its package `hello` is a static
program.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.chroots import Chroot, chroot
from tests.greeting import greeter
from tests.patience import HANG_S

MODULES = "/mnt/regpush/tests/data/guix"
OURS = {"GUIX_PACKAGE_PATH": MODULES}
COMMIT = "e0fa68c7718fffd33d81af415279d6ddb518f727"
_PROGRAMS = "opt/regpush-programs"
"""The folder of programs from which stand_in.py makes packages of the same names."""

_DAEMON = ("guix-daemon", "--disable-chroot", "--no-substitutes", "--cores=2", "--max-jobs=2")
_PROFILE = re.compile(r"/gnu/store/\S*-profile\.drv")


@dataclass(frozen=True, slots=True)
class Guix:
    """A Guix with its daemon in a chroot.

    `inside`: the chroot with Debian's guix, which does not know its commit; `described`: the chroot
    with a guix that knows it, as every guix does that was fetched by `guix pull`.
    """

    inside: Chroot
    described: Chroot

    def supply(self, *words: str, of: Chroot | None = None, ours: bool = True) -> None:
        """Put into the store what `guix shell WORDS` would fetch for its profile."""
        env = OURS if ours else {}
        for _ in range(4):
            done = (of or self.inside).run("guix", "shell", "-n", "--no-grafts", *words, env=env)
            assert done.returncode == 0, done.stderr
            found = _PROFILE.findall(done.stdout + done.stderr)
            if not found:
                return
            self.stand_in(found[-1])

    def stand_in(self, derivation: str) -> None:
        """Put into the store what `derivation` would fetch from the network."""
        self.inside.output("python3", f"{MODULES}/stand_in.py", derivation)


@contextmanager
def running_guix(scratch: Path) -> Iterator[Guix]:
    """Start a Guix daemon and yield its `Guix`; `scratch` is the folder of its log."""
    inside = chroot("sid", scratch)
    (inside.root / _PROGRAMS).mkdir(parents=True, exist_ok=True)
    shutil.copy(greeter(scratch), inside.root / _PROGRAMS)
    # Debian's guix does not know the commit it was built from, and so has no cache of profiles.
    config = "usr/share/guile/site/3.0/guix/config.scm"
    text = (inside.root / config).read_text()
    assert text.count("(commit #f)") == 1
    inside.write("/opt/described/config.scm", text.replace("(commit #f)", f'(commit "{COMMIT}")'))
    compiling = (
        "(use-modules (system base compile))"
        '(compile-file "/opt/described/config.scm" #:output-file "/opt/described/config.go")'
    )
    inside.output("guile", "--no-auto-compile", "-c", compiling)
    compiled = "/usr/lib/x86_64-linux-gnu/guile/3.0/site-ccache/guix/config.go"
    over = (("/opt/described/config.scm", f"/{config}"), ("/opt/described/config.go", compiled))
    socket = inside.root / "var/guix/daemon-socket/socket"
    socket.unlink(missing_ok=True)
    daemon = inside.start(*_DAEMON, log=scratch / "daemon.log")
    try:
        until = time.monotonic() + HANG_S
        while not socket.exists():
            assert time.monotonic() < until, (scratch / "daemon.log").read_text()
            time.sleep(0.1)
        yield Guix(inside=inside, described=replace(inside, over=over))
    finally:
        daemon.terminate()
        daemon.wait()
