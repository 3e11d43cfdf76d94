"""A stand-in for `guix`, which Debian does not have.

It builds nothing, and knows nothing of packages: whatever it is asked for, it answers with the
one profile in the store that a real guix-daemon wrote (tests/data). What it fakes is how
`guix` is spoken to and what it prints, as the Guix manual and its sources have it:

- `guix shell --root=FILE --search-paths …` makes FILE a link to the profile, then prints the
  profile's search paths (guix/scripts/environment.scm), and what it builds on stderr;
- `guix build --root=FILE … -e EXPRESSION` likewise, and prints the store path;
- `guix describe --format=channels` prints a `channels.scm`;
- `guix time-machine --channels=FILE -- COMMAND …` does what `guix COMMAND …` does;
- a package it does not know is `guix COMMAND: error: NAME: unknown package`, exit status 1.

- a profile out of the cache of `guix shell` is a backtrace, exit status 1 (`cached_profile_fails`);
- an expression that has `(undefined-thing)` in it cannot be evaluated.

Each call is noted, so that tests see the words that Guix would get. tests/flow/test_soak_guix.py
says the same words to a real Guix 1.5.0 and compares the answers.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

CHANNELS = """(list (channel
       (name 'guix)
       (url "https://git.guix.gnu.org/guix.git")
       (branch "master")
       (commit "e0fa68c7718fffd33d81af415279d6ddb518f727")
       (introduction
        (make-channel-introduction
         "9edb3f66fd807b096b48283debdcddccfea34bad"
         (openpgp-fingerprint
          "BBB0 2DDF 2CEA F6A8 0D1D  E643 A2A0 6DF2 A33A 54FA")))))
"""

DEBIAN_CHANNELS = """(list (channel
       (name 'guix)
       (url #f)
       (branch #f)
       (introduction
        (make-channel-introduction
         "9edb3f66fd807b096b48283debdcddccfea34bad"
         (openpgp-fingerprint
          "BBB0 2DDF 2CEA F6A8 0D1D  E643 A2A0 6DF2 A33A 54FA")))))

;; warning: GUIX_PACKAGE_PATH="/opt/modules"
"""
"""What `guix describe --format=channels` of Debian's guix 1.5.0 prints."""

CRASH = """Backtrace:
   1508:0  2 (add-indirect-root #f "{}")
In guix/ui.scm:
   920:18  0 (_ _)

guix/ui.scm:920:18: In procedure struct-vtable: Wrong type argument in position 1 \
(expecting struct): #f
"""
"""What `guix shell --root` of Guix 1.5.0 says of a profile out of its cache, in part."""

_PROGRAM = """#!{python}
import json, os, sys
words = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(words) + "\\n")
with open({answers!r}) as file:
    answers = json.load(file)
profile = answers.get("profile", {profile!r})
if words[0] == "time-machine":
    words = words[words.index("--") + 1:]
if answers.get("bars"):
    sys.stderr.write("\\r\\x1b[Kregistering 8 items  \u2595\u2588\u2588   \u258f")
    sys.stderr.write("\\r\\x1b[Kregistering 8 items  \u2595\u2588\u2588\u2588\u2588\u2588\u258f\\n")
    sys.stderr.write("building profile with 1 package...\\n")
if answers.get("cached_profile_fails") and words[0] == "shell" and "--rebuild-cache" not in words:
    (root,) = [word.partition("=")[2] for word in words if word.startswith("--root=")]
    os.symlink(profile, root)  # first, as the real one
    sys.stderr.write({crash!r}.format(root))
    sys.exit(1)
if words[:2] == ["describe", "--format=channels"]:
    sys.stdout.write(answers.get("channels", {channels!r}))
elif words[0] in ("shell", "build"):
    if "no-such-package" in words:
        sys.exit(f"guix {{words[0]}}: error: no-such-package: unknown package")
    for expression in (word.removeprefix("--expression=") for word in words):
        if expression == "(undefined-thing)":
            sys.stderr.write(f"guix {{words[0]}}: error: failed to evaluate expression ")
            sys.exit(f"'{{expression}}':\\nUnbound variable: undefined-thing")
    (root,) = [word.partition("=")[2] for word in words if word.startswith("--root=")]
    sys.stderr.write("The following derivation will be built:\\n  {profile}.drv\\n")
    if os.path.islink(root):
        os.unlink(root)
    os.symlink(profile, root)
    if words[0] == "build":
        print(profile)
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

    def answer(self, **how: object) -> None:
        """Let it answer otherwise from now on: see the program."""
        (self.directory / "answers").write_text(json.dumps(how))


def fake_guix(directory: Path, profile: str) -> FakeGuix:
    """Put a `guix` into `directory` that builds `profile`, a store path, out of anything."""
    directory.mkdir()
    program, log = directory / "guix", directory / "log"
    answers = directory / "answers"
    answers.write_text("{}")
    text = _PROGRAM.format(
        python=sys.executable,
        log=str(log),
        answers=str(answers),
        channels=CHANNELS,
        crash=CRASH,
        profile=profile,
    )
    program.write_text(text)
    program.chmod(0o755)
    return FakeGuix(directory, log)
