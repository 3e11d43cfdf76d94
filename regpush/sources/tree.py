"""A directory on disk as it will lie in the image: one place that knows how to list it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from regpush.entry import Entry, Profile
from regpush.errors import SourceError
from regpush.filesystem import directory_entry, read_small, unreadable, walk
from regpush.sources.ignore import LeaveOut


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """`root`, a physical path, lands at `at` in the image. All paths taken are relative to it.

    Every method raises SourceError, naming the path, for what cannot be read or packed.
    """

    root: bytes
    at: bytes
    profile: Profile
    xattrs: bool
    leave_out: LeaveOut

    def in_image(self, path: bytes) -> bytes:
        """Where `path` lies in the image, without slashes around it."""
        return b"/".join(part for part in (self.at, path) if part)

    def relative(self, image_path: bytes) -> bytes:
        """The other way round."""
        return image_path.removeprefix(self.at).lstrip(b"/")

    def on_disk(self, path: bytes) -> bytes:
        """Where `path` is on this machine."""
        return self.root + b"/" + path if path else self.root

    def children(self, path: bytes) -> list[tuple[bytes, bool]]:
        """Name and whether it is a directory, of what is in `path` and not left out; sorted."""
        prefix = path + b"/" if path else b""
        try:
            with os.scandir(self.on_disk(path)) as found:
                listed = [(child.name, child.is_dir(follow_symlinks=False)) for child in found]
        except OSError as error:
            raise unreadable(self.on_disk(path), error) from error
        return sorted(
            (name, is_directory)
            for name, is_directory in listed
            if not self.leave_out(prefix + name, is_directory)
        )

    def directories(self, path: bytes) -> list[bytes]:
        """The names of the directories in `path`, sorted."""
        return [name for name, is_directory in self.children(path) if is_directory]

    def entries(self, tops: Sequence[bytes], stop_at: Collection[bytes] = ()) -> list[Entry]:
        """`tops` and all below, in archive order, without `stop_at` and what is left out."""
        return walk(
            self.root,
            self.at,
            self.profile,
            tops=tops,
            leave_out=self.leave_out,
            stop_at=stop_at,
            xattrs=self.xattrs,
        )

    def parents(self, path: bytes) -> tuple[Entry, ...]:
        """The directories above `path` that the tree knows, top first; never the image's root."""
        above = []
        while path:
            path = path.rpartition(b"/")[0]
            if image_path := self.in_image(path):
                on_disk = self.on_disk(path)
                entry = directory_entry(on_disk, image_path, self.profile, xattrs=self.xattrs)
                above.append(entry)
        return tuple(reversed(above))


def join(*parts: bytes) -> bytes:
    """Relative paths put together; empty ones vanish."""
    return b"/".join(part for part in parts if part)


def lines(path: bytes) -> Iterator[str]:
    """The lines of a text file, without their ends; none if it cannot be read."""
    try:
        text = read_small(path).decode("utf-8", "surrogateescape")
    except (OSError, SourceError):
        return
    yield from text.replace("\r\n", "\n").removesuffix("\n").split("\n")
