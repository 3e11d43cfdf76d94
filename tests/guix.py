"""A stand-in for `guix`, which Debian does not have.

It builds nothing and knows no packages: for every request it gives the one profile in the store
that a real guix-daemon wrote (tests/data). It imitates the command line of `guix` and its output,
by the Guix manual and its sources:

- `guix shell --root=FILE --search-paths …` makes FILE a link to the profile, then prints the
  profile's search paths (guix/scripts/environment.scm), and what it builds on stderr;
- `guix build --root=FILE … -e EXPRESSION` likewise, and prints the store path;
- `guix describe --format=channels` prints a `channels.scm`;
- `guix time-machine --channels=FILE -- COMMAND …` does what `guix COMMAND …` does;
- a package it does not know is `guix COMMAND: error: NAME: unknown package`, exit status 1.

- with `cached_profile_fails`, `guix shell` ends with a backtrace and exit status 1, as for a
  profile in its cache, unless --rebuild-cache is given;
- the expression `(undefined-thing)` cannot be evaluated.

Each call is recorded, so that tests see the arguments that Guix would get.
tests/flow/test_soak_guix.py gives the same arguments to a real Guix 1.5.0 and compares.
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
"""The output of `guix describe --format=channels` of Debian's guix 1.5.0."""

CRASH = """Backtrace:
   1508:0  2 (add-indirect-root #f "{}")
In guix/ui.scm:
   920:18  0 (_ _)

guix/ui.scm:920:18: In procedure struct-vtable: Wrong type argument in position 1 \
(expecting struct): #f
"""
"""A part of the output of `guix shell --root` of Guix 1.5.0 for a profile in its cache."""

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
    """A stand-in for `guix`: `directory` is for the PATH, `log` records the calls."""

    directory: Path
    log: Path

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of each call, without the option `--root=FILE`."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [
            [word for word in json.loads(line) if not word.startswith("--root=")] for line in lines
        ]

    def answer(self, **how: object) -> None:
        """Change the stand-in's output from now on; for the keys see `answers` in `_PROGRAM`."""
        (self.directory / "answers").write_text(json.dumps(how))


def fake_guix(directory: Path, profile: str) -> FakeGuix:
    """Put a `guix` into `directory` that gives `profile`, a store path, for every request."""
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
