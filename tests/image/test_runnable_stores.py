"""What keeps an image of store items from running, and what a base of ours is known to hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from regpush.closure import Closure, Identity, Item
from regpush.digest import Digest
from regpush.entry import Entry, Kind, OnDisk
from regpush.errors import SourceError
from regpush.files.open_root import OpenRoot
from regpush.image.image import Layer
from regpush.image.runnable import Below, doubts
from regpush.options import ImageOptions
from regpush.platform import Platform
from regpush.sources.store_programs import inside_store
from tests.programs import program

AMD64 = Platform("linux", "amd64")
STORE = "/nix/store"


def item(folder: Path, name: str, *, here: bool = True) -> Item:
    """A store item of the files in `folder`."""
    path = f"{STORE}/{name}"
    root = OpenRoot(os.fsencode(folder))

    def entries():
        if not here:
            raise SourceError("gone")
        yield Entry(path=path.encode()[1:], kind=Kind.DIRECTORY, mode=0o755)
        for one in sorted(folder.rglob("*")):
            relative = os.fsencode(one.relative_to(folder))
            at = path.encode()[1:] + b"/" + relative
            if one.is_symlink():
                yield Entry(
                    path=at, kind=Kind.SYMLINK, mode=0o777, link=os.fsencode(one.readlink())
                )
            elif one.is_dir():
                yield Entry(path=at, kind=Kind.DIRECTORY, mode=0o755)
            else:
                status = one.stat()
                content = OnDisk(root, relative, status.st_ino, 0, 0)
                mode = status.st_mode & 0o777
                yield Entry(at, Kind.FILE, mode, size=status.st_size, content=content)

    identity = Identity.nar(Digest.of(name.encode()))
    return Item(path=path, name=name, origin=name, identity=identity, size=1, entries=entries)


def said(*items: Item, start: str, base: Below | None = None) -> list[str]:
    closure = Closure.build((items[0].path,), items)
    options = ImageOptions(entrypoint=(start,))
    return list(doubts(inside_store(closure), options, AMD64, base))


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    (folder / "bin").mkdir(parents=True)
    program(folder / "bin/static", "amd64")
    program(folder / "bin/arm", "arm64")
    for name, text in {"script": f"#!{STORE}/b-bash/bin/bash\n", "data": "x\n"}.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755 if name == "script" else 0o644)
    (folder / "sbin").symlink_to("bin")
    (folder / "bin/sh").symlink_to(f"{STORE}/b-bash/bin/bash")
    return folder


def test_programs_of_a_store(tmp_path: Path, app: Path) -> None:
    own, bash = item(app, "a-app"), tmp_path / "bash"
    program(bash / "bin/bash", "amd64")
    both = (own, item(bash, "b-bash"))
    at = f"{STORE}/a-app/bin"
    assert said(*both, start=f"{at}/static") == []
    assert said(*both, start=f"{STORE}/a-app/sbin/static") == []
    assert said(*both, start=f"{at}/script") == []
    assert said(*both, start=f"{at}/sh") == []
    (missing,) = said(own, start=f"{at}/script")
    assert f"needs {STORE}/b-bash/bin/bash, which is not in the image" in missing
    assert "is not in the image" in said(own, start=f"{at}/none")[0]
    assert "is not executable" in said(own, start=f"{at}/data")[0]
    assert "is a program for linux/arm64" in said(own, start=f"{at}/arm")[0]


def test_what_is_not_here_is_not_doubted(app: Path) -> None:
    assert said(item(app, "a-app", here=False), start=f"{STORE}/a-app/bin/none") == []


def test_a_base_of_ours_is_known_by_its_items(app: Path) -> None:
    own = item(app, "a-app")
    blob = Layer(descriptor=None, diff_id=Digest.of(b"x"))  # type: ignore[arg-type]  not looked at

    def base(*items: str) -> Below:
        return Below.of({}, [Layer(descriptor=blob.descriptor, diff_id=blob.diff_id, items=items)])

    start = f"{STORE}/a-app/bin/script"
    assert said(own, start=start, base=base(f"{STORE}/b-bash")) == []
    assert "needs" in said(own, start=start, base=base(f"{STORE}/c-dash"))[0]
    assert said(own, start=start, base=base()) == []  # another tool's
    assert said(own, start=start, base=base(f"{STORE}/c-dash", "(links)")) == []
    assert said(own, start=start, base=base("/")) == []
