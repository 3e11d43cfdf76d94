"""A stand-in for `guix`, which Debian does not have.

It builds nothing, and knows nothing of packages: whatever it is asked for, it answers with the
one profile in the store that a real guix-daemon wrote (tests/data). What it fakes is how
`guix` is spoken to and what it prints, as the Guix manual and its sources have it:

- `guix shell --root=FILE --search-paths …` makes FILE a link to the profile, then prints the
  profile's search paths (guix/scripts/environment.scm), and what it builds on stderr;
- `guix build --root=FILE … -e EXPRESSION` likewise, and prints the store path;
- `guix describe --format=channels` prints a `channels.scm`;
- a package it does not know is `guix COMMAND: error: NAME: unknown package`, exit status 1.

Each call is noted, so that tests see the words that Guix would get. Whether a real Guix
understands these words is not tested here.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

CHANNELS = """(list (channel
        (name 'guix)
        (url "https://git.savannah.gnu.org/git/guix.git")
        (branch "master")
        (commit
          "e0fa68c7718fffd33d81af415279d6ddb518f727")))
"""

_PROGRAM = """#!{python}
import json, os, sys
words = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(words) + "\\n")
if words[:2] == ["describe", "--format=channels"]:
    sys.stdout.write({channels!r})
elif words[0] in ("shell", "build"):
    if "no-such-package" in words:
        sys.exit(f"guix {{words[0]}}: error: no-such-package: unknown package")
    (root,) = [word.partition("=")[2] for word in words if word.startswith("--root=")]
    sys.stderr.write("The following derivation will be built:\\n  {profile}.drv\\n")
    os.symlink({profile!r}, root)
    if words[0] == "build":
        print({profile!r})
    else:
        print('export PATH="{profile}/bin${{PATH:+:}}$PATH"')
else:
    sys.exit(f"guix: error: {{words[0]}}: command not faked")
"""


@dataclass(frozen=True, slots=True)
class FakeGuix:
    """The directory that goes onto the PATH, and what was asked."""

    directory: Path
    log: Path

    @property
    def calls(self) -> list[list[str]]:
        """The words after `guix` of each call, without the place of the root."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [
            [word for word in json.loads(line) if not word.startswith("--root=")] for line in lines
        ]


def fake_guix(directory: Path, profile: str) -> FakeGuix:
    """Put a `guix` into `directory` that builds `profile`, a store path, out of anything."""
    directory.mkdir()
    program, log = directory / "guix", directory / "log"
    text = _PROGRAM.format(python=sys.executable, log=str(log), channels=CHANNELS, profile=profile)
    program.write_text(text)
    program.chmod(0o755)
    return FakeGuix(directory, log)
