"""Tell users about files that more users may read in the image than on this machine.

A directory's files are readable by everybody in the image, so that equal files give equal digests
under every umask (docs/guide/directory.md). `tar` and `docker build` keep modes, so users who rely
on mode 0600 get a note.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator

from regpush.entry import Entry, Kind, Profile
from regpush.errors import printable
from regpush.files.listing import join
from regpush.ownership import Rules
from regpush.sources.tree import Tree


def widening(tree: Tree, rules: Rules) -> str:
    """Write a note about files that more users may read in the image than on this machine.

    Empty if the image has no such file.
    """
    widened = [] if tree.profile is Profile.TREE else sorted(_widened(tree, rules))
    if not widened:
        return ""
    path, mode = widened[0]
    what = "1 file becomes" if len(widened) == 1 else f"{len(widened):,} files become"
    return (
        f"{what} readable by everybody in the image, such as {printable(path)} (mode {mode:04o} "
        "here): --preserve keeps modes and owners"
    )


def _widened(tree: Tree, rules: Rules) -> Iterator[tuple[bytes, int]]:
    """Yield path and mode, on this machine, of files that more users may read in the image."""
    for path, folder in tree.listing.folders.items():
        for name, row in folder.private():
            if stat.S_ISREG(row.mode) and row.mode & stat.S_IRUSR:
                place = join(path, name)
                plain = Entry(path=tree.in_image(place), kind=Kind.FILE, mode=0o644)
                if rules.adjust(plain).mode & stat.S_IROTH:
                    yield place, stat.S_IMODE(row.mode)
