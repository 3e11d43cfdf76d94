"""Parse the JSON of `nix path-info --json`, and the attributes of a derivation with graphs.

Nix manual, "JSON formats: store object info" (versions 1 to 3) and "Advanced Attributes". Nix up to
2.18 and Lix print a list of store paths. Later versions print an object with a member for each
path. The newest put this object at `info` of another one, whose `storeDir` is the directory to
which the paths are relative.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct

from regpush.digest import Digest
from regpush.errors import printable
from regpush.sources import hashes
from regpush.sources.path_info import PathInfo
from regpush.sources.store_path import is_path


class Listed(Struct, frozen=True, kw_only=True):
    """A store path that JSON or a closure file lists.

    `nar_hash`, `nar_size`: sha256 and bytes of its Nix archive, None where they are not stated.
    `deriver`: the path of its derivation, empty where unknown. `references`: the paths that it
    refers to, sorted, without itself.
    """

    path: str
    nar_hash: Digest | None
    nar_size: int | None
    deriver: str
    references: tuple[str, ...]

    def recorded(self, nar_hash: Digest, nar_size: int) -> PathInfo:
        """Return the `PathInfo` of the store path, with this hash and size (bytes) of its NAR."""
        return PathInfo(
            path=self.path,
            nar_hash=nar_hash,
            nar_size=nar_size,
            deriver=self.deriver,
            references=self.references,
        )


class NotValid(Struct, frozen=True):
    """A store path that the JSON marks as not valid: the store does not have it."""

    path: str


def parse(text: str) -> list[Listed | NotValid]:
    """Return the store paths in the JSON `text`. Raises ValueError that names the wrong field."""
    try:
        return list(_from_json(json.loads(text)))
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error


def listed(
    path: str, digest: Digest | None, size: int | None, deriver: str, references: Iterable[str]
) -> Listed:
    """Return a `Listed` with sorted references; the deriver `unknown-deriver` becomes empty."""
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
            raise ValueError(
                "it contains several graphs (lists of store paths); write one of them to a file"
            )
        if graphs:
            (value,) = graphs
    if isinstance(value, dict):
        for key, info in value.items():
            yield _from_info(key, info, store_dir)
    elif isinstance(value, list):
        for position, info in enumerate(value):
            if not isinstance(info, dict):
                raise ValueError(f"member {position} of its list is not an object")
            path = _field(info, "path", str, f"member {position} of its list")
            yield _from_info(path, info, store_dir)


def _is_graph(value: object) -> bool:
    """Whether an attribute of a derivation is a graph: a list of objects with a `path`."""
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
        raise ValueError(f"{where}: its value is not an object")
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
        raise ValueError(f"{where}: narSize is negative")
    deriver = _field(info, "deriver", str, where, "")
    return listed(absolute(key), digest, size, deriver, map(absolute, references))


_REQUIRED = object()


def _field(
    value: dict[str, Any], key: str, kind: type, where: str, default: Any = _REQUIRED
) -> Any:
    """Return `value[key]`, or `default`, if given, where the key is missing or its value null.

    Raises ValueError where the value is not of the type `kind`; `where` names the place of `value`
    in the error.
    """
    found = value.get(key)
    if found is None and default is not _REQUIRED:
        return default
    if not isinstance(found, kind) or isinstance(found, bool):
        raise ValueError(f"{where}: {key} is missing or has the wrong type")
    return found
