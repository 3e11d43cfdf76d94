"""Standard directories that a layer over a base image leaves as they are in the base.

Filesystem Hierarchy Standard 3.0, chapters 3 to 5. In a base `/bin` may be a link, and `/tmp` is
open to all: an entry for that directory in a layer would replace the link or change the mode.
"""

from __future__ import annotations

_BELOW = {
    "": (
        "bin boot dev etc home lib lib32 lib64 libx32 media mnt opt proc root run sbin srv sys "
        "tmp usr var"
    ),
    "usr/": "bin games include lib lib32 lib64 libexec libx32 local sbin share src",
    "usr/local/": "bin etc games include lib lib64 libexec man sbin share src",
    "var/": "cache lib local lock log mail opt run spool tmp",
}

DIRECTORIES = frozenset(
    f"{folder}{name}".encode() for folder, names in _BELOW.items() for name in names.split()
)
"""Paths in an image, without a leading slash."""
