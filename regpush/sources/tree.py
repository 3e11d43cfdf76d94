"""A directory on this machine as it was listed, and its place in the image."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from regpush.entry import Entry, Profile, as_text
from regpush.errors import SourceError
from regpush.files.filesystem import read_small
from regpush.files.listing import ByFolder, Listing, join

_BELOW = {
    "": (
        "bin boot dev etc home lib lib32 lib64 libx32 media mnt opt proc root run sbin srv sys "
        "tmp usr var"
    ),
    "usr/": "bin games include lib lib32 lib64 libexec libx32 local sbin share src",
    "usr/local/": "bin etc games include lib lib64 libexec man sbin share src",
    "var/": "cache lib local lock log mail opt run spool tmp",
}

STANDARD_DIRECTORIES = frozenset(
    f"{folder}{name}".encode() for folder, names in _BELOW.items() for name in names.split()
)
"""Image paths of directories that a layer over a base image leaves as they are in the base.

Filesystem Hierarchy Standard 3.0, chapters 3 to 5. In a base `/bin` may be a link, and `/tmp` is
open to all: an entry for that directory in a layer would replace the link or change the mode.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A listing whose root is at `at` in the image. Path arguments are relative to the listing.

    `kept`: directories, by their image paths, that stay as they are in the base image.
    """

    listing: Listing
    at: bytes
    profile: Profile
    kept: Collection[bytes] = ()
    _parents: dict[frozenset[bytes], tuple[Entry, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def keeps_links(self) -> bool:
        """Whether a file with several names is stored once an item, with hard links."""
        return self.profile is Profile.TREE

    def in_image(self, path: bytes) -> bytes:
        """Convert `path` into an image path without leading or trailing slash."""
        return join(self.at, path)

    def relative(self, image_path: bytes) -> bytes:
        """Convert an image path into a path in the tree; the inverse of `in_image`."""
        return image_path.removeprefix(self.at).lstrip(b"/")

    def on_disk(self, path: bytes) -> bytes:
        """Return the absolute path of `path` on this machine, for messages."""
        return self.listing.on_disk(path)

    def names(self, path: bytes) -> tuple[bytes, ...]:
        """List the names in the directory `path` that are not left out, sorted."""
        return self.listing.folders[path].names

    def directories(self, path: bytes) -> tuple[bytes, ...]:
        """List the names of the directories in the directory `path`, sorted."""
        return self.listing.folders[path].folders

    def parents(self, tops: ByFolder) -> tuple[Entry, ...]:
        """Make entries of the tree's directories above `tops`, sorted, without the image's root.

        Raises SourceError where extended attributes cannot be read.
        """
        # Cached, because packages in one folder share them: 20,000 tuples would take 8 MB.
        folders = frozenset(folder for folder, names in tops.items() if any(names))
        found = self._parents.get(folders)
        if found is None:
            found = self._parents[folders] = self._above(folders)
        return found

    def _above(self, folders: frozenset[bytes]) -> tuple[Entry, ...]:
        above = set(folders)
        for path in folders:
            while path and (path := path.rpartition(b"/")[0]) not in above:
                above.add(path)
        return tuple(
            self.listing.directory(path, image_path, self.profile)
            for path in sorted(above)
            if (image_path := self.in_image(path))
        )

    def lines(self, path: bytes) -> Iterator[str]:
        """Read the lines of the text file `path`, without their ends; none if it is unreadable."""
        try:
            text = as_text(read_small(self.listing.root, path))
        except (OSError, SourceError):
            return
        yield from text.replace("\r\n", "\n").removesuffix("\n").split("\n")
