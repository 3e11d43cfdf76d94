"""Real stores: one that Nix builds here, one that a Guix daemon wrote."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from regpush.closure import Closure
from regpush.concurrency import Cancellation
from regpush.events import Event
from regpush.options import SourceOptions
from regpush.settings import Settings, StoreLocation
from regpush.sources.identity import identify
from regpush.sources.stats import Stats
from regpush.sources.targets import resolve
from regpush.sources.tools import Workshop
from tests.registry.parts import real_part

REPOSITORY = Path(__file__).parent.parent.parent
GUIX_STORE = REPOSITORY / "tests/data/guix-store.tar.gz"

# leaf <- library <- app, which refers to itself as well, and the two ways to write that down.
_EXPRESSION = r"""
let
  make = name: script: extra: derivation ({
    inherit name;
    system = builtins.currentSystem; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
    args = [ "-ec" script ];
  } // extra);
  leaf = make "leaf-1.0" "mkdir -p $out/share; echo leaf > $out/share/leaf" {};
  library = make "my-library-2.3-dev" ''
    mkdir $out; ln -s ${leaf} $out/leaf; head -c 100000 /dev/zero > $out/zeros
    ln $out/zeros $out/again; echo minus > $out/leaf-minus; mkdir $out/empty
  '' {};
  app = make "app-3" ''
    mkdir -p $out/bin $out/b; ln -s ${library}/leaf $out/leaf; echo $out > $out/self
    printf '#!/bin/sh\necho hello\n' > $out/bin/app; chmod +x $out/bin/app
    echo x > $out/b/x; echo y > $out/b-y; echo z > $out/b.z
  '' {};
in {
  inherit leaf app;
  graph = make "graph" "cp graph $out" { exportReferencesGraph = [ "graph" app ]; };
  attrs = make "attrs" ''
    . $NIX_ATTRS_SH_FILE; /bin/cp $NIX_ATTRS_JSON_FILE ''${outputs[out]}; exit 0
  '' {
    __structuredAttrs = true; exportReferencesGraph.graph = [ app ];
    builder = "/bin/bash";
  };
}
"""


def needs_root() -> None:
    if os.geteuid():
        pytest.skip("only root can become another user")


def as_nobody(target: str) -> str:
    """How many items another user finds for `target`, or the class of the error and the error."""
    # The interpreter itself may be root's, so the process changes its user once it runs.
    program = (
        "import os, sys; from regpush.sources.identity import identify\n"
        "from regpush.sources.stats import Stats; from regpush.sources.targets import resolve\n"
        "from regpush.sources.tools import Workshop\n"
        "from regpush.concurrency import Cancellation; from regpush.options import SourceOptions\n"
        "from regpush.errors import RegpushError; from regpush.events import ignore\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try:\n"
        "  stop = Cancellation()\n"
        "  with Workshop(ignore, stop) as workshop:\n"
        "    c = resolve(sys.argv[1:], SourceOptions(), (), workshop=workshop)\n"
        "    identify(c, Stats(None), stop, now_ns=0)\n"
        "  print(len(c.items))\n"
        "except RegpushError as error: print(type(error).__name__, error)\n"
    )
    environ = {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    return run(sys.executable, "-c", program, target, env=environ).strip()


@dataclass(frozen=True, slots=True)
class NixStore:
    """A store under `root`; `app`, `graph`, `attrs` and so on are what was built in it."""

    root: Path
    environ: dict[str, str]
    built: dict[str, str]

    def run(self, *command: str) -> str:
        return run(*command, env=self.environ)

    @property
    def stores(self) -> tuple[StoreLocation, ...]:
        return Settings.from_environ(self.environ).stores

    @property
    def database(self) -> Path:
        return self.root / "nix/var/nix/db/db.sqlite"


def run(*command: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def nix_store() -> Iterator[NixStore]:
    real_part("nix-build")
    # Not below pytest's own directory: another user is to read it.
    with tempfile.TemporaryDirectory(prefix="regpush-nix-") as name:
        root = Path(os.path.realpath(name))
        root.chmod(0o755)
        nix = root / "nix"
        (nix / "conf").mkdir(parents=True)
        (nix / "conf/nix.conf").write_text(
            "sandbox = false\nbuild-users-group =\nsubstituters =\n"
            "experimental-features = nix-command\nfsync-metadata = false\n"
        )
        environ = {
            **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
            "NIX_STORE_DIR": f"{nix}/store",
            "NIX_STATE_DIR": f"{nix}/var/nix",
            "NIX_LOG_DIR": f"{nix}/var/log",
            "NIX_CONF_DIR": f"{nix}/conf",
            "NIX_REMOTE": "local",
            "NIX_PATH": "",
        }
        (root / "default.nix").write_text(_EXPRESSION)
        built = {}
        for attribute in ("leaf", "app", "graph", "attrs"):
            link = root / f"result-{attribute}"
            command = ("nix-build", str(root / "default.nix"), "-A", attribute, "-o", str(link))
            built[attribute] = run(*command, env=environ).strip()
        yield NixStore(root, environ, built)
        run("chmod", "-R", "u+w", str(nix))


@pytest.fixture
def guix_store(tmp_path: Path) -> Path:
    """The directory that the Guix store was unpacked into: `gnu/store` and `var/guix`."""
    with tarfile.open(GUIX_STORE) as archive:
        archive.extractall(tmp_path / "guix", filter="tar")
    return tmp_path / "guix"


@dataclass(frozen=True, slots=True)
class Resolved:
    closure: Closure
    events: list[Event]

    def __getitem__(self, name: str) -> str:
        """The path of the one item called `name`."""
        (path,) = (item.path for item in self.closure.items if item.name == name)
        return path


def take(target: object, stores: tuple[StoreLocation, ...] = (), **options: object) -> Resolved:
    events: list[Event] = []
    source = SourceOptions(**options)  # type: ignore[arg-type]  # tests name options by keyword
    cancel = Cancellation()
    with Workshop(events.append, cancel) as workshop:
        closure = resolve([str(target)], source, stores, workshop=workshop)
        return Resolved(identify(closure, Stats(None), cancel, now_ns=0), events)


@pytest.fixture(autouse=True)
def no_substituters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nix is not to ask for anything elsewhere."""
    monkeypatch.setenv("NIX_CONFIG", "substituters =")


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files below `tmp_path/app`: keywords are contents by path; returns that directory."""

    def write_all(files: dict[str, str | bytes]) -> Path:
        root = tmp_path / "app"
        root.mkdir(exist_ok=True)
        for path, content in files.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        return root

    return write_all
