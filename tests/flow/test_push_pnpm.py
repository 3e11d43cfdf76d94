"""`node:` with a lock of pnpm, over a real registry and an index of the test."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.images import unpack
from tests.program import push
from tests.tarballs import integrity, make_tarball
from tests.wheels import Index

BARE = ("--from", "none")


class Shop:
    """A project `one` → `two`, with a member of the workspace and a package for Macs."""

    def __init__(self, folder: Path, index: Index) -> None:
        self.folder = folder
        (folder / "packages/lib").mkdir(parents=True)
        (folder / "index.js").write_text("console.log('hello')\n")
        (folder / "packages/lib/package.json").write_text(
            json.dumps({"name": "lib", "bin": "cli.js", "dependencies": {"@acme/two": "^1"}})
        )
        (folder / "packages/lib/cli.js").write_text("#!/usr/bin/env node\n")
        manifest = {"dependencies": {"one": "^1", "lib": "workspace:*"},
                    "optionalDependencies": {"mac": "^1"}}  # fmt: skip
        (folder / "package.json").write_text(json.dumps(manifest))
        one = make_tarball(index.folder, "one")
        two = make_tarball(
            index.folder, "@acme/two",
            files={"package.json": json.dumps({"name": "@acme/two", "bin": {"deux": "x/two.js"}}),
                   "x/two.js": "#!/usr/bin/env node\r\n", ".gitignore": "a"},
        )  # fmt: skip
        self.value: dict[str, Any] = {
            "lockfileVersion": "9.0",
            "importers": {
                ".": {
                    "dependencies": {
                        "one": {"specifier": "^1", "version": "1.0.0(@acme/two@1.0.0)"},
                        "lib": {"specifier": "workspace:*", "version": "link:packages/lib"},
                    },
                    "optionalDependencies": {"mac": {"specifier": "^1", "version": "1.0.0"}},
                },
                "packages/lib": {
                    "dependencies": {"@acme/two": {"specifier": "^1", "version": "1.0.0"}}
                },
            },
            "packages": {
                "@acme/two@1.0.0": {**self.resolved(two, index), "hasBin": True},
                "mac@1.0.0": {**self.resolved(one, index), "os": ["darwin"]},
                "one@1.0.0": self.resolved(one, index),
            },
            "snapshots": {
                "@acme/two@1.0.0": {},
                "mac@1.0.0": {"optional": True},
                "one@1.0.0(@acme/two@1.0.0)": {"dependencies": {"deux": "@acme/two@1.0.0"}},
            },
        }
        self.write()

    @staticmethod
    def resolved(path: Path, index: Index) -> dict[str, Any]:
        tarball = f"{index.url}/{path.name}"
        return {"resolution": {"integrity": integrity(path), "tarball": tarball}}

    def write(self) -> None:
        (self.folder / "pnpm-lock.yaml").write_text(yaml.safe_dump(self.value, sort_keys=False))


@pytest.fixture
def shop(tmp_path: Path, index: Index) -> Shop:
    return Shop(tmp_path / "shop", index)


def test_each_package_lies_in_a_folder_of_its_own(shop, index, to, tmp_path):
    push(f"node:{shop.folder}", to, *BARE).ok()
    assert sorted(set(index.gets)) == ["acme-two-1.0.0.tgz", "one-1.0.0.tgz"]
    root = unpack(to, tmp_path / "out") / "app"
    modules = root / "node_modules"
    store = modules / ".pnpm"
    one, two = "one@1.0.0_@acme+two@1.0.0", "@acme+two@1.0.0"
    assert sorted(os.listdir(store)) == [two, "node_modules", one]
    assert _links(root) == {
        "node_modules/one": f".pnpm/{one}/node_modules/one",
        "node_modules/lib": "../packages/lib",
        "node_modules/.bin/lib": "../../packages/lib/cli.js",
        f"node_modules/.pnpm/{one}/node_modules/deux": f"../../{two}/node_modules/@acme/two",
        f"node_modules/.pnpm/{one}/node_modules/one/node_modules/.bin/deux":
            f"../../../../../{two}/node_modules/@acme/two/x/two.js",
        "node_modules/.pnpm/node_modules/@acme/two": f"../../{two}/node_modules/@acme/two",
        "node_modules/.pnpm/node_modules/deux": f"../{two}/node_modules/@acme/two",
        "node_modules/.pnpm/node_modules/.bin/deux": "../@acme/two/x/two.js",
        "packages/lib/node_modules/@acme/two":
            f"../../../../node_modules/.pnpm/{two}/node_modules/@acme/two",
        "packages/lib/node_modules/.bin/deux":
            f"../../../../node_modules/.pnpm/{two}/node_modules/@acme/two/x/two.js",
    }  # fmt: skip
    program = store / two / "node_modules/@acme/two/x/two.js"
    assert program.read_bytes() == b"#!/usr/bin/env node\n"
    assert program.stat().st_mode & 0o777 == 0o755
    assert (store / two / "node_modules/@acme/two/.gitignore").exists()
    assert (root / "packages/lib/cli.js").stat().st_mode & 0o777 == 0o755
    assert not (root / "pnpm-lock.yaml").exists()


def _links(root: Path) -> Mapping[str, str]:
    return {str(path.relative_to(root)): os.readlink(path)
            for path in root.rglob("*") if path.is_symlink()}  # fmt: skip


def test_nothing_is_fetched_that_the_registry_has(shop, index, to):
    push(f"node:{shop.folder}", to, *BARE).ok()
    index.gets.clear()
    again = push(f"node:{shop.folder}", to, *BARE).ok()
    assert index.gets == []
    assert set(again.actions) == {"reused"}
    newer = make_tarball(index.folder, "one", "1.0.1")
    text = yaml.safe_dump(shop.value, sort_keys=False).replace("one@1.0.0", "one@1.0.1")
    shop.value = yaml.safe_load(text.replace("version: 1.0.0(", "version: 1.0.1("))
    shop.value["packages"]["one@1.0.1"] = shop.resolved(newer, index)
    shop.write()
    one = push(f"node:{shop.folder}", to, *BARE).ok()
    # What `one` links the programs of stands in the tarball of the other.
    assert sorted(index.gets) == ["acme-two-1.0.0.tgz", "one-1.0.1.tgz"]
    assert one.actions.count("uploaded") == 2  # the package, and the links to it


def test_a_package_that_may_build_is_warned_of(shop, to):
    (shop.folder / "pnpm-workspace.yaml").write_text("onlyBuiltDependencies: [one]\n")
    said = "one 1.0.0 has an install script, which regpush does not run"
    assert said in push(f"node:{shop.folder}", to, *BARE).ok().stderr
    push(f"node:{shop.folder}", to, *BARE, "--strict").failed(2, said)


@pytest.mark.parametrize(
    ("keys", "new", "words"),
    [
        (("lockfileVersion",), "6.0", ["lockfileVersion 6.0, and 9"]),
        (("importers", ".", "dependencies", "one", "specifier"), "^2",
         ["out of date", "'^1'", "'^2'"]),
        (("importers", ".", "dependencies", "lib", "version"), "link:../lib", ["outside"]),
        (("importers", ".", "dependencies", "one", "version"), "9.0.0", ["one@9.0.0", "lock"]),
        (("importers", ".", "dependencies", "one", "version"),
         "1.0.0(patch_hash=00)", ["one@1.0.0"]),
        (("packages", "one@1.0.0", "resolution"), {"type": "git", "repo": "x"}, ["from git"]),
        (("packages", "one@1.0.0", "resolution"), {"directory": "x"}, ["a dependency on a folder"]),
        (("packages", "one@1.0.0", "resolution", "integrity"), "sha1-AAAA", ["only sha1"]),
        (("packages", "one@1.0.0", "os"), ["win32"], ["one 1.0.0, which does not run on linux/"]),
        (("snapshots", "one@1.0.0(@acme/two@1.0.0)", "dependencies"), {"../x": "1"},
         ["malformed name"]),
    ],
)  # fmt: skip
def test_what_cannot_be_pushed_is_said_in_one_line(shop, index, to, keys, new, words):
    at = shop.value
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = new
    shop.write()
    push(f"node:{shop.folder}", to, *BARE).failed(2, *words)
    assert index.gets == []


def test_patches_are_refused_by_name(shop, to):
    text = yaml.safe_dump(shop.value).replace(
        "1.0.0(@acme/two@1.0.0)", "1.0.0(patch_hash=0a)(@acme/two@1.0.0)"
    )
    shop.value = yaml.safe_load(text)
    shop.write()
    push(f"node:{shop.folder}", to, *BARE).failed(2, "one@1.0.0 is patched")


def test_the_project_says_which_of_two_locks_counts(shop, to):
    (shop.folder / "package-lock.json").write_text("{}")
    push(f"node:{shop.folder}", to, *BARE).failed(2, "package-lock.json")
    manifest = json.loads((shop.folder / "package.json").read_text())
    manifest["packageManager"] = "pnpm@10.1.0"
    (shop.folder / "package.json").write_text(json.dumps(manifest))
    push(f"node:{shop.folder}", to, *BARE).ok()
