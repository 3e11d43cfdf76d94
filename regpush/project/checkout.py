"""Ask git about the checkout that a directory lies in: commit, branch, tag, remote."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

_TIMEOUT_S = 30.0  # `git status` may have to read every file of a large work tree


class NotInGitError(Exception):
    """git failed or is not installed; the message is git's own error message, if there is one."""


class WorkTree(Struct, frozen=True, eq=False):
    """The git work tree that `directory` lies in. Each method runs git once."""

    directory: str

    def commit(self) -> str:
        """Return the hex digits of the checked-out commit. Raises NotInGitError."""
        return self._git("rev-parse", "--verify", "HEAD^{commit}")

    def short_commit(self) -> str:
        """Return the checked-out commit as `git rev-parse --short` does. Raises NotInGitError."""
        return self._git("rev-parse", "--verify", "--short", "HEAD^{commit}")

    def branch(self) -> str:
        """Return the checked-out branch. Raises NotInGitError, also if HEAD is detached."""
        return self._git("symbolic-ref", "--quiet", "--short", "HEAD")

    def is_dirty(self) -> bool:
        """Return whether tracked files differ from the checked-out commit. Raises NotInGitError."""
        # git takes no lock: another git may be running, and the work tree may be read-only.
        return bool(
            self._git("--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
        )

    def description(self) -> str:
        """Return the output of `git describe --tags --dirty`, such as `v1.2-3-gabc1234`.

        Raises NotInGitError, also if no tag is reachable from the commit.
        """
        return self._git("describe", "--tags", "--dirty")

    def remote(self) -> str:
        """Return the configured URL of the remote `origin`. Raises NotInGitError."""
        return self._git("config", "--get", "remote.origin.url")

    def _git(self, *arguments: str) -> str:
        return _run(["git", "-C", self.directory, *arguments])


def _run(command: Sequence[str]) -> str:
    import subprocess  # not imported at the top: most pushes do not run git

    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=True,
            encoding="utf-8",
            errors="backslashreplace",
        )
    except subprocess.CalledProcessError as error:
        lines = error.stderr.splitlines() or [
            f"'git {' '.join(command[3:])}' failed without a message"
        ]
        raise NotInGitError(re.sub(r"^fatal: ", "", lines[0])) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInGitError(f"git cannot be run: {error}") from error
    return done.stdout.strip()
