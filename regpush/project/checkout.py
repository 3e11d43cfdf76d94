"""What git tells about a directory; git runs only when an answer is needed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_TIMEOUT_S = 30.0  # `status` reads the whole tree where its index is cold


class NotInGitError(Exception):
    """git cannot answer; the message is git's own, or says that git is not installed."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class WorkTree:
    """The git work tree that `directory` lies in."""

    directory: str

    def commit(self) -> str:
        """Return the commit checked out, in hex. Raises NotInGitError."""
        return self._git("rev-parse", "--verify", "HEAD^{commit}")

    def short_commit(self) -> str:
        """Return the commit, abbreviated as git does it. Raises NotInGitError."""
        return self._git("rev-parse", "--verify", "--short", "HEAD^{commit}")

    def branch(self) -> str:
        """Return the branch checked out. Raises NotInGitError, also where HEAD is detached."""
        return self._git("symbolic-ref", "--quiet", "--short", "HEAD")

    def is_dirty(self) -> bool:
        """Whether tracked files differ from the commit, as for `git describe --dirty`."""
        # Without a lock: another git may be at work, and the tree may be read-only.
        return bool(
            self._git("--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
        )

    def description(self) -> str:
        """Return the output of `git describe`. Raises NotInGitError, also without a tag."""
        return self._git("describe", "--tags", "--dirty")

    def remote(self) -> str:
        """Return the URL of `origin`, as it is configured. Raises NotInGitError."""
        return self._git("config", "--get", "remote.origin.url")

    def _git(self, *arguments: str) -> str:
        return _run(["git", "-C", self.directory, *arguments])


def _run(command: Sequence[str]) -> str:
    import subprocess  # most pushes do without

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
        lines = error.stderr.splitlines() or ["it has none"]
        raise NotInGitError(re.sub(r"^fatal: ", "", lines[0])) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInGitError(f"git cannot be run: {error}") from error
    return done.stdout.strip()
