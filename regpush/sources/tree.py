"""A listed directory of this machine, together with its place in the image."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from msgspec import Struct, field

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
"""Image paths of standard directories, for which a layer above a base image gets no entries.

Filesystem Hierarchy Standard 3.0, chapters 3 to 5. In a base image `/bin` may be a symbolic link,
and `/tmp` has mode 1777: an entry for such a directory in a layer would replace the link, or change
the mode.
"""


class Tree(Struct, frozen=True, kw_only=True, eq=False):
    """The listing of a directory, which is at the image path `at` (without outer slashes).

    Path arguments are relative to the directory. `profile`: how metadata is normalised. `kept`:
    image paths of directories that get no entry, because the base image has them.
    """

    listing: Listing
    at: bytes
    profile: Profile
    kept: Collection[bytes] = ()
    _parents: dict[frozenset[bytes], tuple[Entry, ...]] = field(default_factory=dict)

    @property
    def keeps_links(self) -> bool:
        """Whether the names of one file become hard links in an item, instead of separate files."""
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
        """Return the sorted names in the directory `path`, without files that are left out."""
        return self.listing.folders[path].names

    def directories(self, path: bytes) -> tuple[bytes, ...]:
        """Return the sorted names of the directories in the directory `path`."""
        return self.listing.folders[path].folders

    def parents(self, tops: ByFolder) -> tuple[Entry, ...]:
        """Return entries of the directories above `tops`, sorted by path, without the image's root.

        Raises SourceError where extended attributes cannot be read.
        """
        # Cached, so that packages in one folder share a tuple: 20,000 tuples would take 8 MB.
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
        """Yield the lines of the text file `path`, without line ends; none if it is unreadable."""
        try:
            text = as_text(read_small(self.listing.root, path))
        except (OSError, SourceError):
            return
        yield from text.replace("\r\n", "\n").removesuffix("\n").split("\n")
