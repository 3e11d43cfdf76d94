"""A directory that lives: changes of every kind between pushes, each image compared."""

import os
import random
import shutil

import pytest

from tests.flow.test_push_directory import below, write
from tests.images import tree, unpack
from tests.program import push

FLAGS = [
    [],
    ["--layers", "size", "--max-layers", "3"],
    ["--layers", "single"],
    ["--layers", "popularity"],
    ["--layers", "origin"],
    ["--layers", "auto"],
    ["--layers", "auto", "--max-layers", "3"],
    ["--max-layers", "2"],
    ["--preserve"],
    ["--compression", "gzip:best"],
    ["--reuse", "content"],
    ["--root-dir", "/srv/app"],
]


def make(root, chance):
    for name in ("a", "b", "c", "dd"):
        for folder in ("node_modules", "vendor", "packages/x/node_modules"):
            write(root / folder / name / "index", chance.randbytes(chance.choice([10, 300_000])))
    write(root / "main.py", "1")
    write(root / "lib" / "code.py", "2")


def change(root, chance):
    """One of the things that happen to files between two deploys; its name."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    one, other = chance.sample(files, 2)
    folder = chance.choice(sorted(path for path in root.rglob("*") if path.is_dir()))
    kind = chance.choice(
        ["edit", "same size", "chmod", "rename", "remove", "add", "link", "swap", "empty", "copy"]
    )
    match kind:
        case "edit":
            one.write_bytes(one.read_bytes() + b"more")
        case "same size":
            one.write_bytes(chance.randbytes(one.stat().st_size))
        case "chmod":
            one.chmod(one.stat().st_mode ^ 0o100)
        case "rename":
            one.rename(one.with_name(one.name + "~"))
        case "remove":
            one.unlink()
        case "add":
            write(folder / f"new{chance.randrange(9)}" / "f", chance.randbytes(50))
        case "link":
            target = folder / f"link{chance.randrange(99)}"
            if not os.path.lexists(target):
                target.symlink_to(os.path.relpath(other, folder))
        case "swap":
            data = one.read_bytes()
            one.write_bytes(other.read_bytes())
            other.write_bytes(data)
        case "empty":
            (folder / f"empty{chance.randrange(99)}").mkdir(exist_ok=True)
        case "copy":
            target = root / "vendor" / f"copy{chance.randrange(99)}"
            if not target.exists():
                shutil.copytree(root / "node_modules", target, symlinks=True)
    return kind


@pytest.mark.parametrize("seed", range(3))
def test_an_image_is_what_its_source_is(docker_registry, repository, tmp_path, seed):
    chance = random.Random(seed)
    root = tmp_path / "app"
    make(root, chance)
    to = f"{docker_registry.host}/{repository}"
    done = []
    for number in range(8):
        flags = chance.choice(FLAGS) if number else []
        tag = chance.choice(["latest", f"t{number}"])
        push(root, f"{to}:{tag}", *flags).ok()
        place = "srv/app" if "--root-dir" in flags else "app"
        out = unpack(f"{to}:{tag}", tmp_path / f"out{number}") / place
        same = tree(out) == tree(root) if "--preserve" in flags else below(out) == below(root)
        assert same, (number, flags, done)
        shutil.rmtree(tmp_path / f"out{number}")
        done = [change(root, chance) for _ in range(chance.randrange(1, 4))]
