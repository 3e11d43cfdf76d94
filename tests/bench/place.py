"""Where a contender runs: a registry of its own behind a link of its own, and a home."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.bench import guard
from tests.bench.link import Counts, Link, Shape
from tests.bench.measure import Usage, run
from tests.registry.servers import Registry, run_docker_registry

_ACCESS = re.compile(rb'^\S+ - \S+ \[[^]]*\] "([A-Z]+) /', re.MULTILINE)
_REMOTE = re.compile(rb'http\.request\.remoteaddr="([^"]+)"')
_LOG_SETTLES_S = 0.05  # a line is written after its response was sent


@dataclass(frozen=True)
class Sample:
    """One measured run. `bytes_up` and `bytes_down` as on the link; without a link, the sizes
    of the blobs that the registry has gained, and 0. CPU in seconds, memory in bytes."""

    wall_s: float
    cpu_s: float
    peak_rss: int
    bytes_up: int
    bytes_down: int
    requests: int
    connections: int
    registry_cpu_s: float
    link_cpu_s: float


class Place:
    """`host` is where the registry is reached, `home` where the client may keep things,
    `work` where it may put what it makes anew each time.

    `shape` None leaves the link out: the client talks to the registry, and requests are
    counted in its log.
    """

    def __init__(self, directory: Path, registry: Registry, link: Link | None, host: str) -> None:
        self.host = host
        self.home = directory / "home"
        self.work = directory / "work"
        self._directory = directory
        self._registry = registry
        self._link = link

    def clear(self) -> None:
        """An empty registry, an empty home."""
        for folder in (self._registry.storage, self.home, self.work):
            _replace(folder, None)

    def remember(self) -> None:
        """What registry and home hold now is what `restore` brings back."""
        for folder in (self._registry.storage, self.home):
            _replace(self._directory / f"{folder.name}.kept", folder)

    def restore(self, *, home: bool) -> None:
        """The registry as remembered, the home as well or empty."""
        _replace(self._registry.storage, self._directory / f"{self._registry.storage.name}.kept")
        _replace(self.home, self._directory / f"{self.home.name}.kept" if home else None)
        _replace(self.work, None)

    def run(
        self, commands: Sequence[Sequence[str]], more: Mapping[str, str], shape: Shape | None = None
    ) -> Sample:
        """Run `commands`, over a link like `shape`, with `more` in their environment."""
        environment = {**_environment(self.home), **more}
        for name in ("HOME", "XDG_RUNTIME_DIR"):
            os.makedirs(environment[name], mode=0o700, exist_ok=True)
        self.work.mkdir(exist_ok=True)
        if self._link is not None:
            self._link.shape(shape or Shape())
        before, cpu_before = self._counts(), _cpu_s(self._registry.process.pid)
        usage = run(
            commands,
            environment=environment,
            directory=self._directory,
            within=_own_state(self.home),
        )
        time.sleep(_LOG_SETTLES_S)
        cpu_s = _cpu_s(self._registry.process.pid) - cpu_before
        return self._sample(usage, self._counts().since(before), cpu_s)

    def _counts(self) -> Counts:
        if self._link is not None:
            return self._link.counts()
        log = self._registry.log_file.read_bytes()
        return Counts(
            connections=len(set(_REMOTE.findall(log))),
            bytes_up=_stored(self._registry.storage),
            methods=Counter(method.decode() for method in _ACCESS.findall(log)),
        )

    def _sample(self, usage: Usage, counts: Counts, registry_cpu_s: float) -> Sample:
        return Sample(
            wall_s=usage.wall_s,
            cpu_s=usage.cpu_s,
            peak_rss=usage.peak_rss,
            bytes_up=counts.bytes_up,
            bytes_down=counts.bytes_down,
            requests=counts.requests,
            connections=counts.connections,
            registry_cpu_s=registry_cpu_s,
            link_cpu_s=counts.cpu_s,
        )


@contextmanager
def place(directory: Path, *, linked: bool, guarded: bool = False) -> Iterator[Place]:
    """A place below `directory`, which is removed afterwards.

    `guarded`: the registry wants Bearer tokens and answers for blobs with 307, elsewhere.
    """
    directory.mkdir(parents=True)
    with ExitStack() as stack:
        stack.callback(_replace, directory, None)
        registry = stack.enter_context(run_docker_registry(directory / "registry"))
        registry.storage.mkdir(exist_ok=True)
        link = stack.enter_context(Link()) if linked or guarded else None
        forward: Callable[[str], str] = link.forward if link is not None else lambda host: host
        host = registry.host
        if guarded:
            host = stack.enter_context(guard.guarded(host, forward))
        yield Place(directory, registry, link, forward(host))


def _environment(home: Path) -> dict[str, str]:
    names = ("PATH", "TMPDIR", "LANG", "BUILDKIT_HOST")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {
        **kept,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local/share"),
        "XDG_RUNTIME_DIR": str(home / "run"),
    }


def _own_state(home: Path) -> list[str]:
    """What starts a command whose /var/lib is in `home`: as root, skopeo and buildah remember
    below it which blobs are where."""
    if not _can_unshare():
        return []
    state = home / "var-lib"
    state.mkdir(parents=True, exist_ok=True)
    return ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /var/lib && exec "$@"', str(state)]


@cache
def _can_unshare() -> bool:
    trial = ["unshare", "--mount", "mount", "--bind", "/tmp", "/var/lib"]
    return os.getuid() == 0 and subprocess.run(trial, capture_output=True).returncode == 0


def _replace(folder: Path, source: Path | None) -> None:
    """Make `folder` a copy of `source`, or empty where there is none. Links stay links."""
    if folder.exists():
        shutil.rmtree(folder)
    if source is None:
        folder.mkdir()
    elif source.exists():
        subprocess.run(["cp", "--archive", str(source), str(folder)], check=True)


def _stored(storage: Path) -> int:
    """Bytes of all blobs."""
    blobs = storage / "docker" / "registry" / "v2" / "blobs"
    return sum(data.stat().st_size for data in blobs.glob("*/*/*/data"))


def _cpu_s(pid: int) -> float:
    """User and system seconds that process `pid` has used (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
