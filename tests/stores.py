"""Real stores for tests: one that Nix builds here, one that guix-daemon wrote elsewhere."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

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
    """A single-user store below a directory, with Nix's own tools to build into it."""

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
        """Run one of Nix's programs on this store and return what it prints."""
        return subprocess.run(
            [real_part(program), *arguments],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, **self.environment, "HOME": str(self.root)},
        ).stdout.strip()

    def build(self, version: str, salt: str = "") -> Path:
        """The store path of the app; `salt` rebuilds a library in the middle."""
        arguments = ["--argstr", "version", version, "--argstr", "salt", salt]
        return Path(self.run("nix-build", str(self.root / "app.nix"), "--no-out-link", *arguments))

    def closure(self, path: Path) -> list[str]:
        """Its closure, as Nix tells it."""
        return self.run("nix-store", "-qR", str(path)).split()


def guix_store(root: Path) -> tuple[Path, Path]:
    """Unpack the store guix-daemon wrote: where its profile lies, and its database's folder."""
    with tarfile.open(DATA / "guix-store.tar.gz") as archive:
        archive.extractall(root, filter="fully_trusted")
    (name,) = root.rglob("profile-path")
    base = name.parent
    profile = base / name.read_text().strip().lstrip("/")
    return profile, base / "var/guix/db"


def removed(paths: list[str], root: Path) -> None:
    """Take store items away, as if this machine never had them."""
    for path in paths:
        if not Path(path).is_relative_to(root):
            raise ValueError(path)
        subprocess.run(["chmod", "-R", "u+w", path], check=True)
        if Path(path).is_dir():
            shutil.rmtree(path)
        else:
            Path(path).unlink()
