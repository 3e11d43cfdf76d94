"""Parse `nix path-info --json` in all its forms, and graphs in a derivation's attributes.

Nix manual, "JSON formats: store object info" (versions 1 to 3) and "Advanced Attributes". Nix up to
2.18 and Lix print a list. Later versions print an object by path; the newest put that object into
an envelope with the store's directory, to which its paths are relative.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from regpush.digest import Digest
from regpush.errors import printable
from regpush.sources import hashes
from regpush.sources.path_info import PathInfo
from regpush.sources.store_path import is_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A store path in JSON or in a closure file; hash and size of its NAR may be missing.

    `deriver` is empty where unknown; `references` are sorted, without the path itself.
    """

    path: str
    nar_hash: Digest | None
    nar_size: int | None
    deriver: str
    references: tuple[str, ...]

    def recorded(self, nar_hash: Digest, nar_size: int) -> PathInfo:
        """Make the `PathInfo` of the store path with the hash and size (bytes) of its NAR."""
        return PathInfo(
            path=self.path,
            nar_hash=nar_hash,
            nar_size=nar_size,
            deriver=self.deriver,
            references=self.references,
        )


@dataclass(frozen=True, slots=True)
class NotValid:
    """A store path that Nix lists as not valid."""

    path: str


def parse(text: str) -> list[Listed | NotValid]:
    """Read the JSON `text`. Raises ValueError naming what is wrong, and where."""
    try:
        return list(_from_json(json.loads(text)))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def listed(
    path: str, digest: Digest | None, size: int | None, deriver: str, references: Iterable[str]
) -> Listed:
    """Make a `Listed`: references are sorted, an unknown deriver is dropped."""
    return Listed(
        path=path,
        nar_hash=digest,
        nar_size=size,
        deriver=deriver if deriver != "unknown-deriver" else "",
        references=tuple(sorted(set(references) - {path})),
    )


def _from_json(value: Any) -> Iterator[Listed | NotValid]:
    store_dir = ""
    if isinstance(value, dict) and "info" in value:
        store_dir = _field(value, "storeDir", str, "the file", "")
        value = _field(value, "info", dict, "the file")
    if isinstance(value, dict):
        graphs = [part for part in value.values() if _is_graph(part)]
        if len(graphs) > 1:
            raise ValueError("it holds several graphs; write one of them to a file")
        if graphs:
            (value,) = graphs
    if isinstance(value, dict):
        for key, info in value.items():
            yield _from_info(key, info, store_dir)
    elif isinstance(value, list):
        for position, info in enumerate(value):
            if not isinstance(info, dict):
                raise ValueError(f"member {position} of the list is not an object")
            path = _field(info, "path", str, f"member {position} of the list")
            yield _from_info(path, info, store_dir)


def _is_graph(value: object) -> bool:
    """Whether `value` is a graph among the attributes of a derivation."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(info, dict) and "path" in info for info in value)
    )


def _from_info(key: str, info: Any, store_dir: str) -> Listed | NotValid:
    if info is None or (isinstance(info, dict) and info.get("valid") is False):
        return NotValid(posixpath.join(store_dir, key))
    where = printable(key)
    if not isinstance(info, dict):
        raise ValueError(f"{where}: not an object")
    store_dir = _field(info, "storeDir", str, where, store_dir)

    def absolute(path: str) -> str:
        full = posixpath.join(store_dir, path)
        if not is_path(full):
            raise ValueError(f"{where}: '{printable(path[:200])}' is not a store path")
        return full

    references = _field(info, "references", list, where)
    if not all(isinstance(reference, str) for reference in references):
        raise ValueError(f"{where}: references are not all strings")
    digest = None
    if info.get("narHash") is not None:
        try:
            digest = hashes.parse(info["narHash"])
        except ValueError as error:
            raise ValueError(f"{where}: narHash: {error}") from error
    size = _field(info, "narSize", int, where, None)
    if size is not None and size < 0:
        raise ValueError(f"{where}: no valid narSize")
    deriver = _field(info, "deriver", str, where, "")
    return listed(absolute(key), digest, size, deriver, map(absolute, references))


_REQUIRED = object()


def _field(
    value: dict[str, Any], key: str, kind: type, where: str, default: Any = _REQUIRED
) -> Any:
    """Return `value[key]`, which must be of `kind`; absent or null, the `default` if given.

    Raises ValueError.
    """
    found = value.get(key)
    if found is None and default is not _REQUIRED:
        return default
    if not isinstance(found, kind) or isinstance(found, bool):
        raise ValueError(f"{where}: no valid {key}")
    return found
