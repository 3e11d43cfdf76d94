"""Real stores for tests: one that Nix builds here, and one that a guix-daemon wrote elsewhere."""

import contextlib
import http.server
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from tests.patience import HANG_S
from tests.registry.parts import real_part

DATA = Path(__file__).parent / "data"

_EXPRESSION = """
{ version ? "1", salt ? "" }: let
  mk = name: deps: script: derivation {
    inherit name deps; system = builtins.currentSystem; builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    args = [ "-ec" ''
      mkdir -p $out/share
      printf '%s\\n' $deps > $out/share/deps
      ${script}
    '' ];
  };
  blob = n: "i=0; while [ $i -lt ${toString n} ]; do echo ${toString n} $i; i=$((i+1)); done";
  libc = mk "libc-2.36" [] "${blob 9000} > $out/share/libc; ln $out/share/libc $out/share/twin";
  ssl = mk "openssl-3.0.1${salt}" [ libc ] "${blob 7000} > $out/share/ssl";
  lib = mk "libfoo-1.2" [ libc ssl ] "${blob 5000} > $out/share/foo";
  alone = mk "tzdata-2024a" [] "${blob 8000} > $out/share/tz";
in mk "app-${version}" [ lib ssl alone ] ''
  mkdir $out/bin; printf '#!/bin/sh\\necho app ${version}\\n' > $out/bin/app; chmod +x $out/bin/app
  ln -s ${libc}/share/libc $out/share/link
''
"""


class NixStore:
    """A single-user Nix store below a directory, and Nix's programs to build into it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "store"
        self.state = root / "var" / "nix"
        conf = root / "conf"
        conf.mkdir(parents=True)
        (conf / "nix.conf").write_text(
            "sandbox = false\nbuild-users-group =\nsubstituters =\n"
            "experimental-features = nix-command\nauto-optimise-store = false\n"
        )
        self.environment = {
            "NIX_STORE_DIR": str(self.store),
            "NIX_STATE_DIR": str(self.state),
            "NIX_LOG_DIR": str(root / "var/log"),
            "NIX_CONF_DIR": str(conf),
            "NIX_LOCALSTATE_DIR": str(root / "var"),
            "NIX_REMOTE": "local",
            "NIX_PATH": "",
        }
        (root / "app.nix").write_text(_EXPRESSION)

    def run(self, program: str, *arguments: str) -> str:
        """Run one of Nix's programs on this store; returns its stdout."""
        return subprocess.run(
            [real_part(program), *arguments],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, **self.environment, "HOME": str(self.root)},
        ).stdout.strip()

    def build(self, version: str, salt: str = "") -> Path:
        """Build the app and return its store path.

        Another `salt` gives another version of a library.
        """
        arguments = ["--argstr", "version", version, "--argstr", "salt", salt]
        return Path(self.run("nix-build", str(self.root / "app.nix"), "--no-out-link", *arguments))

    def closure(self, path: Path) -> list[str]:
        """Return the paths in the closure of `path`, as Nix lists them."""
        return self.run("nix-store", "-qR", str(path)).split()


@contextmanager
def emptied(nix: NixStore, home: Path) -> Iterator[dict[str, str]]:
    """Replace the store by an empty one at the same place, as on a fresh machine.

    Yields the environment for programs; afterwards the store is back.
    """
    away = nix.root / "away"
    away.mkdir()
    for name in ("store", "var"):
        (nix.root / name).rename(away / name)
    nix.store.mkdir()
    try:
        yield {**nix.environment, "HOME": str(home)}
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(nix.store)], check=True)
        for name in ("store", "var"):
            shutil.rmtree(nix.root / name, ignore_errors=True)
            (away / name).rename(nix.root / name)
        away.rmdir()


class Served(NamedTuple):
    """One reply of a binary cache: the path of the request, and the bytes of the body."""

    path: str
    size: int


class CacheServer:
    """A binary cache over HTTP that records its replies.

    With `broken`, requests for NARs are answered 500. With `release` cleared, they wait until it is
    set, and `stalled` is set when one waits.
    """

    def __init__(self, directory: Path) -> None:
        self.answers: list[Served] = []
        self.broken = False
        self.stalled = threading.Event()
        self.release = threading.Event()
        self.release.set()
        cache = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body go at once, or the client's delayed ACK holds up each

            def do_GET(self) -> None:
                file = directory / self.path.lstrip("/").partition("?")[0]
                is_nar = file.is_relative_to(directory / "nar")
                if is_nar and not cache.release.is_set():
                    cache.stalled.set()
                    cache.release.wait(2 * HANG_S)
                data = file.read_bytes() if file.is_file() else b""
                status = 500 if is_nar and cache.broken else 200 if file.is_file() else 404
                asked_for = status == 200 and self.command == "GET"
                data = data if asked_for else b""
                cache.answers.append(Served(self.path, len(data)))
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(data)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128  # Nix opens 25 connections at once

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def nars(self) -> list[Served]:
        return [one for one in self.answers if one.path.startswith("/nar/") and one.size]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def guix_store(root: Path) -> tuple[Path, Path]:
    """Unpack the store that a guix-daemon wrote.

    Returns its profile's path and the database's folder.
    """
    with tarfile.open(DATA / "guix-store.tar.gz") as archive:
        archive.extractall(root, filter="fully_trusted")
    (name,) = root.rglob("profile-path")
    base = name.parent
    profile = base / name.read_text().strip().lstrip("/")
    return profile, base / "var/guix/db"


def removed(paths: list[str], root: Path) -> None:
    """Delete the store items at `paths`, all of which must lie below `root`."""
    for path in paths:
        if not Path(path).is_relative_to(root):
            raise ValueError(path)
        subprocess.run(["chmod", "-R", "u+w", path], check=True)
        if Path(path).is_dir():
            shutil.rmtree(path)
        else:
            Path(path).unlink()
