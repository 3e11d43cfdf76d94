"""A path given as a target: its file mode, and an error that suggests what was meant."""

from __future__ import annotations

import os

from regpush.errors import UsageError, printable, similar
from regpush.files.filesystem import unreadable, working_directory


def mode_of(path: str) -> int:
    """Read the st_mode of `path`, symbolic links followed.

    Raises UsageError where `path` does not exist, SourceError where it cannot be read.
    """
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        from regpush.sources import guix  # most targets exist

        what = "is a link to nothing" if os.path.islink(path) else "does not exist"
        maybe = guix.is_specification(path) and not os.path.islink(path)
        no_guix = "; for it to be a package, 'guix' must be on the PATH" if maybe else ""
        raise UsageError(
            f"target '{printable(path)}' {what}; looked for a directory, a store path, a "
            f"link into a store or a closure file{_from_here(path)}{no_guix}"
            f"{_near(path)}"
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _near(path: str) -> str:
    """Write the question whether a similar file was meant; empty where none is similar."""
    folder, name = os.path.split(path.rstrip("/"))
    try:
        names = os.listdir(folder or ".")
    except (OSError, ValueError):
        return ""
    found = similar(name, names, cutoff=0.75)
    return f"; did you mean {printable(os.path.join(folder, found))}?" if found else ""


def _from_here(path: str) -> str:
    return "" if os.path.isabs(path) else f", from {printable(working_directory())}"
