"""Root file systems of other Debian releases, for programs that this machine's release lacks.

They are a newer Nix, and Guix. mmdebstrap makes the roots from the mirror that this machine's apt
reads. A process enters a root with mounts of its own, so that nothing stays mounted. The network is
that of the machine: a registry on 127.0.0.1 is reached from inside.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.documents import ROOT
from tests.registry.parts import real_part

PACKAGES = {"trixie": ("nix-bin",), "sid": ("nix-bin", "guix")}
"""The packages to test from each release: Nix 2.26.3; Nix 2.34.8 and Guix 1.5.0, in November
2026."""

_COMMON = ("bash-static", "busybox-static", "ca-certificates", "git", "python3", "python3-venv")
_HOST_FILES = ("etc/hosts", "etc/pip.conf", "etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt")
_VENV = "/opt/regpush-tests"
_SOURCE = "/mnt/regpush"
_PATH = f"{_VENV}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENTER = """
root=$1; shift
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mkdir -p "$root$SOURCE" && mount --bind -o ro "$CHECKOUT" "$root$SOURCE"
for pair in $OVER; do mount --bind "$root${pair%%=*}" "$root${pair#*=}"; done
exec chroot "$root" /usr/bin/env -i "$@"
"""


_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """The outcome of a push: exit code, stderr (`said`), and stdout, which is its report."""

    code: int
    said: str
    stdout: str

    def ok(self) -> Pushed:
        """Assert that the push ended with 0; returns this outcome."""
        assert self.code == 0, self.said
        return self

    def failed(self, code: int, *words: str) -> Pushed:
        """Assert that the push ended with `code` and a line that has all `words`.

        Returns this outcome.
        """
        assert self.code == code, self.said
        last = self.said.rstrip().rpartition("\n")[2]
        assert all(word in last for word in words), self.said
        return self

    @property
    def items(self) -> list[str]:
        """The paths of the store items in the layers of the only image pushed."""
        (image,) = json.loads(self.stdout)["images"]
        held = [item for layer in image["layers"] for item in layer["items"]]
        return [item for item in held if item.startswith("/")]


@dataclass(frozen=True, slots=True)
class Chroot:
    """A root file system in which regpush runs from this checkout, as root.

    `over`: pairs of paths in it; each process started sees the first file in place of the second.
    """

    root: Path
    over: tuple[tuple[str, str], ...] = ()

    def run(
        self, *command: str, env: Mapping[str, str] | None = None, cwd: str = "/tmp"
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` inside; returns its exit status and output, and accepts any status."""
        return subprocess.run(
            self._entering(command, env or {}, cwd),
            env=self._mounts(),
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
        )

    def output(self, *command: str, env: Mapping[str, str] | None = None, cwd: str = "/tmp") -> str:
        """Run `command` inside, which must succeed.

        Returns its stdout without the last line end.
        """
        done = self.run(*command, env=env, cwd=cwd)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def start(self, *command: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a server inside; the caller must end it."""
        with log.open("wb") as said:
            words = self._entering(command, {}, "/")
            return subprocess.Popen(words, env=self._mounts(), stdout=said, stderr=said)

    def push(
        self, *words: str, to: str, env: Mapping[str, str] | None = None, cwd: str = "/tmp"
    ) -> Pushed:
        """Run `regpush WORDS --to TO --format json` inside; returns its outcome."""
        command = (*words, "--to", to, "--format", "json", "--no-cache")
        done = self.run("python3", "-m", "regpush", *command, env=env, cwd=cwd)
        return Pushed(code=done.returncode, said=done.stderr, stdout=done.stdout)

    def write(self, path: str, text: str, mode: int = 0o644) -> str:
        """Write a file inside; returns `path`."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return path

    def _mounts(self) -> dict[str, str]:
        over = " ".join(f"{file}={place}" for file, place in self.over)
        return {**os.environ, "CHECKOUT": str(ROOT), "SOURCE": _SOURCE, "OVER": over}

    def _entering(self, command: Sequence[str], env: Mapping[str, str], cwd: str) -> list[str]:
        said = {"HOME": "/root", "PATH": _PATH, "LANG": "C.UTF-8", "TERM": "dumb"}
        said |= {"PYTHONPATH": _SOURCE, **env}
        words = [f"--chdir={cwd}", *(f"{name}={value}" for name, value in said.items())]
        return ["unshare", "--mount", "sh", "-ec", _ENTER, "sh", str(self.root), *words, *command]


def chroot(suite: str, scratch: Path) -> Chroot:
    """Return the root of the Debian release `suite`, made below `scratch` in two minutes.

    With REGPUSH_CHROOTS=DIR it is made below DIR once, and found there again.
    """
    home = Path(os.environ.get("REGPUSH_CHROOTS") or scratch)
    made = Chroot(home / suite)
    home.mkdir(parents=True, exist_ok=True)
    if not (made.root / "usr").exists():
        packages = ",".join((*_COMMON, *PACKAGES[suite]))
        subprocess.run(
            [
                real_part("mmdebstrap"),
                "--variant=minbase",
                "--mode=root",
                '--aptopt=Acquire::Check-Valid-Until "false"',
                "--dpkgopt=path-exclude=/usr/share/doc/*",
                "--dpkgopt=path-exclude=/usr/share/man/*",
                f"--include={packages}",
                suite,
                str(made.root),
                _mirror(),
            ],
            check=True,
        )
    for name in _HOST_FILES:
        if Path("/", name).exists():
            shutil.copyfile(Path("/", name), made.root / name)
    if not (made.root / _VENV.lstrip("/") / "ready").exists():
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        made.output("python3", "-m", "venv", "--clear", _VENV)
        made.output(f"{_VENV}/bin/pip", "install", "-q", *project["dependencies"])
        made.write(f"{_VENV}/ready", "")
    return made


def _mirror() -> str:
    """Return the URL of the Debian mirror that this machine's apt uses (sources.list(5))."""
    for path in sorted(Path("/etc/apt").glob("sources.list*")):
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        for file in files:
            for line in file.read_text().splitlines():
                words = line.split()
                if words[:1] not in (["URIs:"], ["deb"]):
                    continue
                found = next((one for one in words if one.endswith(("/debian", "/debian/"))), None)
                if found:
                    return found
    raise AssertionError("no mirror of Debian in /etc/apt")
