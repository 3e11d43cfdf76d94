"""Ask Nix's binary caches about store paths, and download single paths from them.

A push is planned from what a cache states about a path (hash, size, references); the path's files
are downloaded only when its layer must be sent. They are unpacked into a scratch directory and not
added to the local store, because a store accepts a path only together with all that the path refers
to (Nix manual, "Closures").
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from msgspec import Struct

from regpush.entry import Entry, Kind, Profile, image_path
from regpush.errors import SourceError, printable
from regpush.events import ItemFetched, Warned
from regpush.files.listing import scan
from regpush.sources import path_info_json
from regpush.sources.nix.command import command, config, has_nix
from regpush.sources.path_info import PathInfo
from regpush.sources.path_info_json import Listed
from regpush.sources.tools import ToolError, Workshop

_AT_A_TIME = 6
"""Concurrent downloads of paths; each needs a connection and several round trips."""
_NOT_VALID = "is not valid"
"""Part of Nix's error message where a cache lacks a path of a closure."""
_UNTRUSTED = re.compile(r"path '([^']+)' is untrusted")


_SOON = ("--option", "connect-timeout", "2", "--option", "download-attempts", "1")
"""Options of Nix: connect once, for 2 s at most. By default Nix would try five times, 10 s in all,
and other caches may have the paths."""
_AT_ONCE = (*_SOON, "--option", "stalled-download-timeout", "2")
"""Options of Nix for the first request to a cache: a cache that accepts the connection and then
sends nothing is given up after 2 s; by default Nix would wait 300 s."""
_BEFORE_LONG = (*_SOON, "--option", "stalled-download-timeout", "5")
"""Options of Nix for requests about paths, which take longer than the first request."""


class Cached(Struct, frozen=True, kw_only=True):
    """A store path that the binary cache at `url` has.

    `info`: what the cache states about the path. `others`: URLs of further caches, which are tried
    where `url` no longer has the path's files.
    """

    info: PathInfo
    url: str
    others: tuple[str, ...] = ()


class Downloads:
    """Downloads of store paths from binary caches to the scratch directory, each once."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._lock = Lock()
        self._begun: dict[str, Future[str]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, one: Cached) -> Future[str]:
        """Start the download of a store path in a thread, if no earlier call started it.

        The future's result is the path of the unpacked files on this machine. The future raises
        SourceError where no cache has the files or where their hash is wrong, CancelledError.
        """
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="regpush-fetch")
                self._workshop.at_end(self._stop)
            if one.info.path not in self._begun:
                self._begun[one.info.path] = self._pool.submit(self._fetch, one)
            return self._begun[one.info.path]

    def entries(self, one: Cached) -> Iterator[Entry]:
        """Wait for the download of a store path, and yield its entries with the modes of a store.

        Raises SourceError where no cache has the files or where their hash is wrong,
        CancelledError.
        """
        at = image_path(one.info.path)
        files = self.begin(one).result()
        return map(_canonical, scan(os.fsencode(files)).entries(at, Profile.STORE))

    def _stop(self) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, one: Cached) -> str:
        """Download a store path from the first cache that has its files; return where they are.

        The hash of the files is compared with the one that the cache states.
        """
        first: ToolError | None = None
        for url in (one.url, *one.others):
            try:
                return self._fetch_from(url, one.info)
            except ToolError as error:
                first = first or error
        assert first is not None  # noqa: S101  the loop tried at least one cache
        raise first

    def _fetch_from(self, url: str, info: PathInfo) -> str:
        self._workshop.cancel.check()  # downloads queued for a thread must not start after Ctrl-C
        folder = self._workshop.path("fetched")
        os.makedirs(folder, exist_ok=True)
        files = os.path.join(folder, posixpath.basename(info.path))
        if os.path.lexists(files):
            files = self._workshop.new_path("fetched-again")
        dump = command("store", "dump-path", "--store", url, info.path)
        came = self._workshop.convey(dump, ("nix-store", "--restore", files))
        if came != info.nar_hash:
            raise SourceError(
                f"{printable(info.path)} from the binary cache {_shown(url)} has the NAR hash "
                f"{came}, but the cache states {info.nar_hash}: the cache is damaged; use another "
                "(--nix-cache)"
            )
        self._workshop.notify(ItemFetched(path=info.path, source=_shown(url), size=info.nar_size))
        return files


class Caches(Struct, frozen=True, kw_only=True):
    """The binary caches that a push asks about store paths, in the order of `urls`.

    `require_sigs`: whether Nix's configuration demands signatures. `downloads`: downloads paths
    from the caches.
    """

    workshop: Workshop
    urls: tuple[str, ...]
    require_sigs: bool
    downloads: Downloads

    @classmethod
    def of(cls, extra: Sequence[str], workshop: Workshop) -> Caches | None:
        """Return the caches `extra` (of --nix-cache) followed by those of Nix's configuration.

        None where there are no caches, or where Nix is not installed. Raises CancelledError.
        """
        if not has_nix():
            return None
        try:
            said = config(workshop)
        except ToolError as error:
            workshop.notify(Warned(message=str(error)))
            return None
        urls = tuple(dict.fromkeys((*extra, *said.substituters)))
        if not urls:
            return None
        return cls(
            workshop=workshop,
            urls=urls,
            require_sigs=said.require_sigs,
            downloads=Downloads(workshop),
        )

    def find(
        self, paths: Iterable[str], known: Callable[[str], bool]
    ) -> tuple[list[Cached], list[str]]:
        """Look up `paths`, and all paths that these refer to, in the caches.

        `known`: whether a path needs no lookup, for instance because the local store has it.
        Returns the paths that a cache has, and the sorted paths that no cache has. A cache that
        does not answer causes a warning. Raises CancelledError.
        """
        found: dict[str, tuple[PathInfo, str]] = {}
        silent: set[str] = set()
        pending = {path for path in paths if not known(path)}
        progress = True
        while pending and progress:
            progress = False
            for url in self.urls:
                if url in silent:
                    continue
                for info in self._ask(url, sorted(pending), silent):
                    if not known(info.path):
                        progress |= info.path in pending
                        found.setdefault(info.path, (info, url))
                referred = {ref for info, _ in found.values() for ref in info.references}
                pending |= {path for path in referred if not known(path)}
                pending -= found.keys()
        answering = tuple(url for url in self.urls if url not in silent)
        cached = [
            Cached(info=info, url=url, others=tuple(one for one in answering if one != url))
            for info, url in found.values()
        ]
        return cached, sorted(pending)

    def _ask(self, url: str, paths: Sequence[str], silent: set[str]) -> list[PathInfo]:
        """Return what the cache at `url` states about `paths` and all that these refer to.

        Paths that the cache lacks, and paths without a trusted signature, are left out. A cache
        that does not answer causes a warning, and its URL is added to `silent`.
        """
        if not paths:
            return []
        try:
            if not url.startswith("file:"):
                self.workshop.ask(*command("store", "ping", "--store", url, *_AT_ONCE))
                self._ask_ahead(url, paths)
            if (whole := self._closures(url, paths)) is not None:
                return whole
            have = self._path_infos(url, *paths)
            there = [info.path for info in have]
            if 0 < len(there) < len(paths) and (part := self._closures(url, there)) is not None:
                return part
            untrusted = self._untrusted(url, *there)
            return [info for info in have if info.path not in untrusted]
        except (ToolError, ValueError) as error:
            message = f"the binary cache {_shown(url)} is not used by this push: {error}"
            self.workshop.notify(Warned(message=message))
            silent.add(url)
            return []

    def _closures(self, url: str, paths: Sequence[str]) -> list[PathInfo] | None:
        """Return what a cache states about the closures of `paths`.

        Paths without a trusted signature are left out. None where the cache lacks a path of the
        closures.
        """
        try:
            infos = self._path_infos(url, "--recursive", *paths)
        except ToolError as error:
            if _NOT_VALID in str(error):
                return None
            raise
        untrusted = self._untrusted(url, "--recursive", *paths)
        return [info for info in infos if info.path not in untrusted]

    def _path_infos(self, url: str, *words: str) -> list[PathInfo]:
        asked = command("path-info", "--json", "--store", url, *_BEFORE_LONG, *words)
        try:
            said = self.workshop.ask(*asked)
        except ToolError as error:
            if not any("--json-format" in line for line in error.said):
                raise
            # Nix 2.33 added this option and announced that later versions will require it.
            said = self.workshop.ask(*asked, "--json-format", "2")
        return [_whole(one) for one in path_info_json.parse(said) if isinstance(one, Listed)]

    def _ask_ahead(self, url: str, paths: Sequence[str]) -> None:
        """Make Nix fetch a cache's answers about the closures of `paths` in parallel.

        Nix keeps the answers in its own cache, where `nix path-info` then finds them. Without this,
        `path-info` of older Nix versions asks for one path after another: 254 paths take 13 s at a
        round trip of 50 ms. A dry run of building into an empty store asks in 25 threads: 0.7 s.
        """
        store = f"local?root={self.workshop.path('empty')}"
        options = ("--store", store, "--option", "substituters", url, *_BEFORE_LONG)
        with contextlib.suppress(ToolError):
            self.workshop.ask("nix-store", "--realise", "--dry-run", *options, *paths)

    def _untrusted(self, url: str, *words: str) -> frozenset[str]:
        """Return the store paths for which the cache at `url` has no signature that Nix trusts.

        `words`: arguments for `nix store verify`: the paths, and `--recursive` for their closures.
        """
        trusted = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query).get("trusted", ["0"])
        if not words or not self.require_sigs or trusted[-1] in ("1", "true"):
            return frozenset()
        try:
            verify = command("store", "verify", "--no-contents", "--store", url, *_BEFORE_LONG)
            self.workshop.ask(*verify, *words)
        except ToolError as error:
            found = frozenset(m[1] for m in map(_UNTRUSTED.search, error.said) if m)
            if not found:
                raise
            message = (
                f"{printable(min(found))} in the binary cache {_shown(url)} is not signed by a key "
                "in trusted-public-keys of nix.conf, and is not taken from there"
            )
            self.workshop.notify(Warned(message=message))
            return found
        return frozenset()


def _whole(one: Listed) -> PathInfo:
    if one.nar_hash is None or one.nar_size is None:
        raise ValueError(f"it states no NAR hash of {one.path}")
    return one.recorded(one.nar_hash, one.nar_size)


def _canonical(entry: Entry) -> Entry:
    """Return `entry` with the mode that a store gives it.

    0555 for directories and executable files, 0444 for other files; links are unchanged.
    """
    if entry.kind is Kind.SYMLINK:
        return entry
    executable = entry.kind is Kind.DIRECTORY or entry.mode & 0o100
    return entry._replace(mode=0o555 if executable else 0o444)


def _shown(url: str) -> str:
    """Return the URL of a cache for messages, without login and parameters, which may be secret."""
    parts = urllib.parse.urlsplit(url)
    return printable(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl())
