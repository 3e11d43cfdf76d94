"""Look up the path of a target; where it does not exist, the error suggests what was meant."""

from __future__ import annotations

import os

from regpush.errors import UsageError, printable, similar
from regpush.files.filesystem import unreadable, working_directory


def mode_of(path: str) -> int:
    """Return the st_mode of the file at `path`, following symbolic links.

    Raises UsageError where `path` does not exist, SourceError where it is not accessible.
    """
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        from regpush.sources import guix  # an import that existing targets save

        what = "is a link to a missing file" if os.path.islink(path) else "does not exist"
        maybe = guix.is_specification(path) and not os.path.islink(path)
        no_guix = "; to push a Guix package, 'guix' must be on the PATH" if maybe else ""
        raise UsageError(
            f"target '{printable(path)}' {what}; looked for a directory, a store path, a "
            f"link into a store or a closure file{_from_here(path)}{no_guix}"
            f"{_near(path)}"
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _near(path: str) -> str:
    """Return `; did you mean FILE?` for a file beside `path` with a similar name; empty without."""
    folder, name = os.path.split(path.rstrip("/"))
    try:
        names = os.listdir(folder or ".")
    except (OSError, ValueError):
        return ""
    found = similar(name, names, cutoff=0.75)
    return f"; did you mean {printable(os.path.join(folder, found))}?" if found else ""


def _from_here(path: str) -> str:
    return "" if os.path.isabs(path) else f", from {printable(working_directory())}"
