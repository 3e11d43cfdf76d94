"""Closure files, most of them written by Nix; later forms as its manual gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regpush.closure import Closure
from regpush.errors import SourceError, UsageError
from regpush.events import TargetResolved
from regpush.settings import StoreLocation
from regpush.sources import hashes
from tests.sources.conftest import NixStore, run, take

A = "/nix/store/" + "0" * 32 + "-app-1"
B = "/nix/store/" + "1" * 32 + "-base-2"
HEX = "ab" * 32


def same(closure: Closure, nix_store: NixStore) -> None:
    """`closure` is what the database says; Nix's own files leave derivers out."""
    expected = take(nix_store.built["app"], nix_store.stores).closure
    assert [(i.path, i.name, i.identity, i.size, i.references) for i in closure.items] == [
        (i.path, i.name, i.identity, i.size, i.references) for i in expected.items
    ]
    assert closure.roots == expected.roots
    for mine, theirs in zip(closure.items, expected.items, strict=True):
        assert list(mine.entries()) == list(theirs.entries())


def path_info(nix_store: NixStore) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(
        nix_store.run("nix", "path-info", "--recursive", "--json", nix_store.built["app"])
    )
    return listed


def structured(sri: str) -> dict[str, str]:
    return {"algorithm": "sha256", "format": "base64", "hash": sri.removeprefix("sha256-")}


@pytest.mark.parametrize("form", ["list", "object", "hexadecimal", "base names", "per item"])
def test_every_form_of_path_info(nix_store: NixStore, tmp_path: Path, form: str) -> None:
    listed = path_info(nix_store)
    value: Any = listed
    store = str(nix_store.root / "nix/store")

    def base(path: str) -> str:
        return path.removeprefix(store + "/")

    if form == "object":
        value = {info.pop("path"): info for info in listed}
    elif form == "hexadecimal":
        for info in listed:
            info["narHash"] = f"sha256:{hashes.parse(info['narHash']).hex}"
    elif form in ("base names", "per item"):
        for info in listed:
            info["narHash"] = structured(info["narHash"])
            info["references"] = [base(reference) for reference in info["references"]]
            info["deriver"] = base(info["deriver"])
            if form == "per item":
                info["storeDir"] = store
        value = {"version": 2, "info": {base(info.pop("path")): info for info in listed}}
        if form == "base names":
            value["storeDir"] = store
    file = tmp_path / "closure.json"
    file.write_text("\n" + json.dumps(value, indent=1))
    found = take(file)
    same(found.closure, nix_store)
    size = sum(item.size for item in found.closure.items)
    assert found.events == [
        TargetResolved(target=str(file), kind="closure file", items=3, size=size)
    ]


def test_the_graph_of_a_derivation_is_completed_from_the_database(
    nix_store: NixStore, tmp_path: Path
) -> None:
    file = tmp_path / "graph"
    file.write_text(Path(nix_store.built["graph"]).read_text())
    same(take(file).closure, nix_store)
    same(take(f"closure:{nix_store.built['graph']}").closure, nix_store)


def test_without_a_database_the_hash_is_computed(nix_store: NixStore, tmp_path: Path) -> None:
    database = nix_store.database
    aside = database.rename(database.with_name("aside"))
    try:
        found = take(f"closure:{nix_store.built['graph']}").closure
    finally:
        aside.rename(database)
    same(found, nix_store)


def test_the_graph_among_structured_attributes(nix_store: NixStore) -> None:
    same(take(f"closure:{nix_store.built['attrs']}").closure, nix_store)


def test_a_registration(nix_store: NixStore, tmp_path: Path) -> None:
    requisites = nix_store.run("nix-store", "--query", "--requisites", nix_store.built["app"])
    file = tmp_path / "registration"
    file.write_text(nix_store.run("nix-store", "--dump-db", *requisites.split()))
    same(take(file).closure, nix_store)


def test_files_are_found_where_the_database_is(guix_store: Path, tmp_path: Path) -> None:
    profile = "/gnu/store/82zs18pmmpw7wvj676cn0wfga08mvy5z-profile"
    database = str(guix_store / "var/guix/db/db.sqlite")
    expected = take(str(guix_store) + profile).closure
    file = tmp_path / "graph"
    file.write_text(
        "".join(
            f"{item.path}\n\n{len(item.references)}\n" + "".join(f"{r}\n" for r in item.references)
            for item in expected.items
        )
    )
    found = take(file, (StoreLocation("/gnu/store", database),)).closure
    assert [item.identity for item in found.items] == [item.identity for item in expected.items]
    for mine, theirs in zip(found.items, expected.items, strict=True):
        assert list(mine.entries()) == list(theirs.entries())


def test_several_roots(tmp_path: Path) -> None:
    file = tmp_path / "registration"
    file.write_text(f"{A}\n{HEX}\n10\n\n0\n{B}\nsha256:{HEX}\n20\nunknown-deriver\n1\n{B}\n")
    closure = take(file).closure
    assert closure.roots == (A, B)
    assert [(item.size, item.references, item.origin) for item in closure.items] == [
        (10, (), "app"),
        (20, (), "base"),
    ]


INFO = {"path": A, "narHash": f"sha256:{HEX}", "narSize": 1, "references": []}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{A}\n", "line 2: the file ends, but a deriver is expected"),
        (f"{A}\n\n", "line 3: the file ends, but a count of references is expected"),
        (f"{A}\n\nmany\n", "line 3: 'many' is not a count of references"),
        (f"{A}\n\n-1\n", "line 3: '-1' is not a count"),
        (f"{A}\n\n2\n{A}\n", "line 5: the file ends, but a reference"),
        (f"{A}\n\n99999999999\n{A}\n", "line 5: the file ends, but a reference"),
        (f"{A}\n\n1\nnonsense\n", "line 4: 'nonsense' is not a store path"),
        (f"{A}\nmd5:00\n1\n\n0\n", "line 2: the hash does not have the length of a sha256"),
        (f"{A}\n{HEX}\nbig\n\n0\n", "line 3: 'big' is not the size"),
        (
            f"{A}\n\n1\n{B}\n",
            f"it lists {A}, but not {B}, to which that path refers; list the whole",
        ),
        (f"{A}\n\n0\n\n", "line 4: '' is not a store path"),
        (f"{A}\n\n0\n\udcff\n", "byte 53 is not UTF-8"),
        ("{", "line 1 column 2"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "it lists no store path"),
        ("{}", "it lists no store path"),
        ("[1]", "member 0 of its list is not an object"),
        ([{"narHash": HEX}], "member 0 of its list: path is missing or has"),
        ([INFO | {"path": "x"}], "x: 'x' is not a store path"),
        ([INFO | {"path": "/nix/store/../" + A}], "is not a store path"),
        ([INFO | {"narHash": "sha256:00"}], f"{A}: narHash: the hash does not have the length"),
        (
            [INFO | {"narHash": {"algorithm": "md5"}}],
            f"{A}: narHash: the hash is an object without",
        ),
        ([INFO | {"narSize": "1"}], f"{A}: narSize is missing or has the wrong type"),
        ([INFO | {"narSize": -1}], f"{A}: narSize is negative"),
        ([INFO | {"narSize": True}], f"{A}: narSize is missing or has the wrong type"),
        ([INFO | {"references": None}], f"{A}: references is missing or has"),
        ([INFO | {"references": [1]}], f"{A}: references are not all strings"),
        ([INFO | {"references": ["../x"]}], "is not a store path"),
        ({A: 1}, f"{A}: its value is not an object"),
        ({"info": []}, "the file: info is missing or has"),
        ({"a": [INFO], "b": [INFO]}, "several graphs"),
    ],
)
def test_what_is_malformed_is_named(tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "closure"
    text = content if isinstance(content, str) else json.dumps(content)
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError) as caught:
        take(f"closure:{file}")
    assert str(caught.value).startswith(f"{file} is not a valid closure file: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [{A: None}, [{"path": A, "valid": False}]])
def test_a_path_that_was_not_valid_is_a_source_error(tmp_path: Path, value: object) -> None:
    file = tmp_path / "closure"
    file.write_text(json.dumps(value))
    with pytest.raises(SourceError, match="not a valid store path"):
        take(file)


def test_a_cycle_is_a_source_error(tmp_path: Path) -> None:
    file = tmp_path / "closure"
    file.write_text(f"{A}\n{HEX}\n1\n\n1\n{B}\n{B}\n{HEX}\n1\n\n1\n{A}\n")
    with pytest.raises(SourceError, match="cycle"):
        take(file)


def test_the_hashes_of_real_files_are_those_of_nix_hash(nix_store: NixStore) -> None:
    for info in path_info(nix_store):
        plain = run("nix-hash", "--type", "sha256", info["path"]).strip()
        assert hashes.parse(info["narHash"]).hex == plain
