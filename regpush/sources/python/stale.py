"""Check that a `uv.lock` is up to date: it must list the dependencies in each pyproject.toml."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from packaging.dependency_groups import DependencyGroupResolver
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from regpush.errors import UsageError, printable
from regpush.sources.python.lock import Graph, PythonLock, read_toml

_Need = tuple[str, tuple[str, ...], str]
"""A dependency: the package's name, its extras, and the permitted versions (`<3,>=2.1`)."""


def check_fresh(lock: PythonLock) -> None:
    """Raise UsageError where a `pyproject.toml` lists other dependencies than `lock` recorded.

    The `pyproject.toml` of every local package is compared: names, extras, permitted versions and
    groups, but not markers, because uv rewrites them.
    """
    graph = Graph.of(lock)
    for name, folder in graph.members(lock).items():
        path = os.path.join(folder, "pyproject.toml")
        if not os.path.isfile(path):
            continue
        project = read_toml(path)[1]
        called = project.get("project", {}).get("name", name)
        if canonicalize_name(str(called)) != name:
            raise UsageError(
                f"{lock.shown} is out of date: it calls the project in {printable(folder)} "
                f"{printable(name)}, and its pyproject.toml {printable(str(called))}; run 'uv lock'"
            )
        for locked in graph.named(name):
            _compare(lock, name, path, locked.get("metadata", {}), project)


def _compare(
    lock: PythonLock, name: str, path: str, locked: Mapping[str, Any], project: Mapping[str, Any]
) -> None:
    said = project.get("project", {})
    dynamic = said.get("dynamic", [])
    now: set[_Need] = set()
    before = {_locked(one) for one in locked.get("requires-dist", [])}
    if "dependencies" not in dynamic:
        now |= set(_needs(said.get("dependencies", []), path))
        if "optional-dependencies" not in dynamic:
            for needs in said.get("optional-dependencies", {}).values():
                now |= set(_needs(needs, path))
            _raise_difference(lock, name, before, now)
    groups = {canonicalize_name(g): g for g in project.get("dependency-groups", {})}
    wanted = {
        group: set(_needs(_group(project["dependency-groups"], spelled, path), path))
        for group, spelled in groups.items()
    }
    legacy = project.get("tool", {}).get("uv", {}).get("dev-dependencies")
    if legacy is not None:
        wanted.setdefault(canonicalize_name("dev"), set()).update(_needs(legacy, path))
    for group, needs in locked.get("requires-dev", {}).items():
        there = {_locked(one) for one in needs}
        _raise_difference(lock, name, there, wanted.pop(canonicalize_name(group), set()))
    for needs in wanted.values():
        _raise_difference(lock, name, set(), needs)


def _raise_difference(lock: PythonLock, name: str, before: set[_Need], now: set[_Need]) -> None:
    # The lock file states no versions of a dependency that has an entry in tool.uv.sources.
    bare = {(one, extras) for one, extras, versions in before if not versions}
    changed = {n for n in now - before if n[:2] not in bare} or {
        b for b in before - now if b[:2] not in {n[:2] for n in now}
    }
    if changed:
        first = min(changed)
        raise UsageError(
            f"{lock.shown} is out of date: the dependency {printable(first[0])}"
            f"{printable(first[2])} of {printable(name)} was "
            f"{'added or changed' if first in now else 'removed'}; run 'uv lock'"
        )


def _group(groups: Mapping[str, Any], name: str, path: str) -> Iterator[str]:
    try:
        resolved = DependencyGroupResolver(groups).resolve(name)
    except (ValueError, TypeError, LookupError) as error:
        raise UsageError(
            f"{printable(path)}: cannot resolve the dependency group {printable(name)}: "
            f"{printable(str(error))}"
        ) from error
    return map(str, resolved)


def _needs(texts: Iterable[object], path: str) -> Iterator[_Need]:
    for text in texts:
        try:
            one = Requirement(str(text))
        except InvalidRequirement as error:
            raise UsageError(
                f"{printable(path)}: the dependency '{printable(str(text))}' is not a requirement "
                "(PEP 508)"
            ) from error
        yield _need(one.name, one.extras, str(one.specifier))


def _locked(one: Mapping[str, Any]) -> _Need:
    return _need(one["name"], one.get("extras", ()), one.get("specifier", ""))


def _need(name: str, extras: Iterable[str], versions: str) -> _Need:
    with suppress(InvalidSpecifier):  # an invalid one is compared as text
        versions = ",".join(sorted(str(one) for one in SpecifierSet(versions)))
    return canonicalize_name(name), tuple(sorted(map(canonicalize_name, extras))), versions
