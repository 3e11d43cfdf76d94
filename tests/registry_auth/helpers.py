"""A credential helper as docker-credential-helpers has them, keeping its secrets in a file."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = """#!{python}
import json, pathlib, sys
root = pathlib.Path({root!r})
verb, said = sys.argv[1], sys.stdin.read()
with open(root / "asked", "a") as log:
    log.write(verb + "\\n")
broken = root / "broken"
if broken.exists():
    exec(broken.read_text())
kept = json.loads((root / "kept.json").read_text())
if verb == "store":
    entry = json.loads(said)
    kept[entry.pop("ServerURL")] = entry
elif verb == "erase":
    if kept.pop(said.strip(), None) is None:
        print("credentials not found in native keychain")
        sys.exit(1)
elif said.strip() in kept:
    print(json.dumps(dict(ServerURL=said.strip(), **kept[said.strip()])))
else:
    print("credentials not found in native keychain")
    sys.exit(1)
(root / "kept.json").write_text(json.dumps(kept))
"""


@dataclass(frozen=True)
class FakeHelper:
    """`docker-credential-test` in a folder of its own; `path` is the search path to find it."""

    root: Path

    @property
    def path(self) -> str:
        return f"{self.root}:/usr/bin:/bin"

    @property
    def kept(self) -> dict[str, dict[str, str]]:
        """Server to user name and secret."""
        found: dict[str, dict[str, str]] = json.loads((self.root / "kept.json").read_text())
        return found

    @property
    def verbs(self) -> list[str]:
        asked = self.root / "asked"
        return asked.read_text().split() if asked.exists() else []

    def keep(self, server: str, username: str, secret: str) -> None:
        kept = {**self.kept, server: {"Username": username, "Secret": secret}}
        (self.root / "kept.json").write_text(json.dumps(kept))

    def breaks(self, code: str) -> None:
        """From now on it runs `code` first, which knows `verb` and `said`."""
        (self.root / "broken").write_text(code)


def fake_helper(root: Path) -> FakeHelper:
    root.mkdir(parents=True, exist_ok=True)
    program = root / "docker-credential-test"
    program.write_text(_PROGRAM.format(python=sys.executable, root=str(root)))
    program.chmod(0o755)
    (root / "kept.json").write_text("{}")
    return FakeHelper(root)
