"""Links that lead out of a directory or to nothing, against what the kernel says of the image."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from regpush.entry import Profile
from regpush.events import InputWarned
from regpush.files.listing import scan
from regpush.sources.dangling import BasePresence, dangling
from regpush.sources.link_root import link_roots
from regpush.sources.tree import Tree
from tests.sources.conftest import NixStore, Write, needs_root, take

PARTS = st.sampled_from(["a", "b", "c", "app", "..", ".", "out", "link0", "link1", "link2"])
TARGETS = st.builds(
    lambda slash, parts: slash + "/".join(parts),
    st.sampled_from(["", "/", "/app/"]),
    st.lists(PARTS, min_size=1, max_size=5),
)
LINKS = st.lists(st.tuples(st.sampled_from(["", "a", "a/b"]), TARGETS), min_size=1, max_size=3)


def warnings(root: Path, **options: object) -> list[str]:
    return [one.message for one in take(root, **options).events if isinstance(one, InputWarned)]


def broken_in(image: Path, links: list[str]) -> set[str]:
    """Those of `links`, paths in `image`, that the kernel cannot follow with that as its root."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.chroot(image)
        os.chdir("/")
        lost = [link for link in links if not os.path.exists(link)]
        os.write(writer, "\n".join(lost).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    return set(filter(None, found.split("\n")))


@settings(deadline=None, max_examples=60)
@given(links=LINKS)
@example(links=[("", "/a")])
@example(links=[("", "../../app/a/c")])
@example(links=[("a", "../a/c"), ("", "link0/c")])
def test_the_kernel_agrees(links: list[tuple[str, str]]) -> None:
    needs_root()
    with tempfile.TemporaryDirectory() as name:
        image = Path(name)
        (image / "app/a/b").mkdir(parents=True)
        (image / "app/a/c").write_text("")
        made = [f"app/{folder}/link{i}".replace("//", "/") for i, (folder, _) in enumerate(links)]
        for path, (_, target) in zip(made, links, strict=True):
            (image / path).symlink_to(target)
        listing = scan(os.fsencode(image / "app"))
        tree = Tree(listing=listing, at=b"app", profile=Profile.STORE)
        found = {f"app/{os.fsdecode(one.path)}" for one in dangling(tree, BasePresence.NONE)}
        broken = broken_in(image, made)
        # What else is broken leads through one that is named.
        assert found <= broken
        assert bool(found) == bool(broken)


def test_one_warning_names_three_and_the_number(write: Write) -> None:
    root = write({"main.js": "", "node_modules/.keep": "", ".regpushignore": "ignored\n"})
    (root.parent / "lib").mkdir()
    (root / "node_modules/lib").symlink_to("../../lib")
    assert warnings(root) == [
        f"1 symbolic link leads out of {root} or to a missing file, and will be broken in the "
        "image: node_modules/lib -> ../../lib"
    ]
    (root / "abs.js").symlink_to(root / "main.js")
    (root / "ignored").write_text("")
    for number in range(3):
        (root / f"z{number}").symlink_to("ignored")
    assert warnings(root) == [
        f"5 symbolic links lead out of {root} or to a missing file, and will be broken in the "
        f"image: abs.js -> {root}/main.js, node_modules/lib -> ../../lib, z0 -> ignored and 2 more"
    ]


@pytest.mark.parametrize(
    ("target", "warned", "with_base"),
    [
        ("main.js", False, False),
        ("/app/main.js", False, False),
        ("/app/gone", True, True),
        ("../app/main.js", False, False),
        ("../../../app/main.js", False, False),
        ("loop", True, True),
        ("main.js/x", True, True),
        ("/dev/stdout", False, False),
        ("/etc/resolv.conf", False, False),
        ("/proc/self/mounts", False, False),
        ("/usr/bin/python3", True, False),
        ("../usr/bin/python3", True, True),
        ("/home/me/lib", True, True),
        ("/", False, False),
    ],
)
def test_what_is_in_the_image(write: Write, target: str, warned: bool, with_base: bool) -> None:
    root = write({"main.js": ""})
    (root / "loop").symlink_to(target)
    assert bool(warnings(root)) is warned
    assert bool(warnings(root, base="example.org/base")) is with_base


def test_a_link_through_a_broken_one_is_not_named(write: Write) -> None:
    root = write({"x": ""})
    (root / "python").symlink_to("python3")
    (root / "python3").symlink_to("/usr/bin/python3")
    (root / "deep").symlink_to("python3/../x")
    (found,) = warnings(root)
    assert found.endswith("in the image: python3 -> /usr/bin/python3")


def test_at_the_root_of_an_image_nothing_leads_out(write: Write) -> None:
    root = write({"usr/bin/x": ""})
    (root / "bin").symlink_to("usr/bin")
    (root / "x").symlink_to("/bin/x")
    (root / "up").symlink_to("../../usr")
    assert warnings(root, root_dir="/") == []
    (root / "gone").symlink_to("/bin/y")
    assert len(warnings(root, root_dir="/")) == 1


def test_links_into_a_store_say_how_to_push_its_items(write: Write, nix_store: NixStore) -> None:
    root = write({"x": ""})
    (root / "app").symlink_to(f"{nix_store.built['app']}/bin/app")
    (found,) = warnings(root)
    store = os.path.dirname(nix_store.built["app"])
    assert f"; to push the items of {store} with their dependencies, name the link" in found
    advice = re.search(r"\((store:\S+)\); (--link-root \.) ", found)
    assert advice
    closure = take(advice[1], nix_store.stores).closure
    assert closure.roots == (nix_store.built["app"],)
    links = dict(link_roots(closure, [advice[2].split()[1]]))
    assert links["/bin/app"] == f"{nix_store.built['app']}/bin/app"
