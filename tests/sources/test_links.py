"""The one item regpush writes itself, and the links it must refuse."""

import pytest

from regpush.closure import Closure, Identity, Item, Role
from regpush.digest import Digest
from regpush.entry import Entry, Kind
from regpush.errors import UsageError
from regpush.options import ImageOptions
from regpush.sources.links import PATH, customise


def item(path, role=Role.ORDINARY, entries=()):
    return Item(
        path=path,
        name=path,
        origin=path,
        identity=Identity.nar(Digest.of(path.encode())),
        size=1,
        entries=lambda: iter(entries),
        role=role,
    )


PROFILE = "/gnu/store/abc-profile"


def generated(*symlinks, closure=None):
    closure = closure or Closure.build((PROFILE,), (item(PROFILE),))
    made = customise(closure, ImageOptions(symlinks=symlinks, essentials=False)).closure
    return next((one for one in made.items if one.path == PATH), None)


def test_links_as_guix_pack_writes_them():
    made = generated(("/bin", "bin"), ("/etc/ssl", "/abs"), ("opt/x", "share/../lib"))
    found = {entry.path: entry for entry in made.entries()}
    assert {path: entry.link for path, entry in found.items()} == {
        b"bin": f"{PROFILE}/bin".encode(),
        b"etc/ssl": b"/abs",
        b"opt/x": f"{PROFILE}/lib".encode(),
        b"tmp": b"",
    }
    assert (found[b"tmp"].kind, found[b"tmp"].mode) == (Kind.DIRECTORY, 0o1777)
    assert [parent.path for parent in made.parents] == [b"etc", b"opt"]
    assert made.role is Role.GENERATED


@pytest.mark.parametrize(
    "links",
    [
        [("/", "x")],
        [("", "x")],
        [("/a/../b", "x")],
        [("/.wh.bin", "x")],
        [("/a/.wh.b/c", "x")],
        [("/a", "")],
        [("/a", "x"), ("/a", "y")],
        [("/a", "x"), ("/a/b", "y")],
        [("/gnu", "x")],
        [("/gnu/store", "x")],
        [(PROFILE, "x")],
        [(f"{PROFILE}/bin", "x")],
    ],
)
def test_links_that_cannot_be(links):
    with pytest.raises(UsageError):
        generated(*links)


def test_a_root_file_system_keeps_its_own_tmp():
    entries = (
        Entry(path=b"bin", kind=Kind.SYMLINK, mode=0o777, link=b"usr/bin"),
        Entry(path=b"usr", kind=Kind.DIRECTORY, mode=0o755),
    )
    root = Closure.build(("/",), (item("/", Role.OWN, entries),))
    assert generated(closure=root) is None
    made = generated(("/usr/x", "y"), closure=root)
    assert [entry.path for entry in made.entries()] == [b"usr/x"]
    for path in ("/bin", "/usr", "/bin/sh"):
        with pytest.raises(UsageError, match="is not possible, because"):
            generated((path, "y"), closure=root)


def test_a_link_below_tmp_leaves_tmp_to_all():
    made = generated(("/tmp/foo", "/bar"))
    found = {entry.path: entry.mode for entry in (*made.parents, *made.entries())}
    assert found == {b"tmp": 0o1777, b"tmp/foo": 0o777}


@pytest.mark.parametrize("path", ["/tmp", "/tmp/app"])
def test_an_app_below_tmp(path):
    closure = Closure.build((path,), (item(path, Role.OWN),))
    made = generated(closure=closure)
    assert (made is None) == (path == "/tmp")
