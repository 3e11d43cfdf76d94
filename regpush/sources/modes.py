"""Tell the user about files that become readable by all users in the image.

Files of a pushed directory are readable by every user of the image, so that equal files give equal
digests whatever the umask was (docs/guide/directory.md). `tar` and `docker build` keep modes, so
people who rely on mode 0600 are told.
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
    """Return a note about the files that become readable by all users only in the image.

    Empty if there are none.
    """
    widened = [] if tree.profile is Profile.TREE else sorted(_widened(tree, rules))
    if not widened:
        return ""
    path, mode = widened[0]
    what = "1 file becomes" if len(widened) == 1 else f"{len(widened):,} files become"
    return (
        f"{what} readable by all users in the image, such as {printable(path)} (mode {mode:04o} "
        "on this machine); --preserve keeps modes and owners"
    )


def _widened(tree: Tree, rules: Rules) -> Iterator[tuple[bytes, int]]:
    """Yield path and mode on this machine of each file that becomes readable by all users."""
    for path, folder in tree.listing.folders.items():
        for name, row in folder.private():
            if stat.S_ISREG(row.mode) and row.mode & stat.S_IRUSR:
                place = join(path, name)
                plain = Entry(path=tree.in_image(place), kind=Kind.FILE, mode=0o644)
                if rules.adjust(plain).mode & stat.S_IROTH:
                    yield place, stat.S_IMODE(row.mode)
