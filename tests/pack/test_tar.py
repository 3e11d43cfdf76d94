"""The packer against Python's tarfile and GNU tar: both know the formats better than we do."""

import hashlib
import heapq
import io
import os
import random
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from regpush.closure import Identity, Item, Role
from regpush.digest import Digest
from regpush.entry import Entry, Kind, OnDisk, Profile
from regpush.errors import SourceError
from regpush.files.filesystem import blocks
from regpush.files.listing import walk
from regpush.pack.tar import Archive, ArchiveOptions, Parents, _merged, header
from regpush.tree_hash import TreeHash
from tests.packing import BLOCK, pack

NAMES = st.lists(
    st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=60),
    min_size=1,
    max_size=8,
).map(lambda parts: "/".join(parts))


def tar_info(entry):
    """The entry as tarfile describes it, in the format our docstring promises."""
    info = tarfile.TarInfo(entry.path.decode("utf-8", "surrogateescape"))
    info.type = {
        Kind.FILE: tarfile.REGTYPE,
        Kind.DIRECTORY: tarfile.DIRTYPE,
        Kind.SYMLINK: tarfile.SYMTYPE,
        Kind.HARDLINK: tarfile.LNKTYPE,
        Kind.CHARACTER: tarfile.CHRTYPE,
        Kind.BLOCK: tarfile.BLKTYPE,
        Kind.FIFO: tarfile.FIFOTYPE,
    }[entry.kind]
    info.mode, info.uid, info.gid, info.size = entry.mode, entry.uid, entry.gid, entry.size
    info.mtime, info.linkname = 1, entry.link.decode("utf-8", "surrogateescape")
    if entry.kind in (Kind.CHARACTER, Kind.BLOCK):
        info.devmajor, info.devminor = map(int, entry.link.split(b":"))
        info.linkname = ""
    if entry.kind is Kind.DIRECTORY and not info.name.endswith("/"):
        info.name += "/"
    return info


def by_tarfile(entry):
    info = tar_info(entry)
    attributes = info.get_info()
    plain = info.name.isascii() and info.linkname.isascii()
    if plain:
        try:
            made = info.create_ustar_header(dict(attributes), "ascii", "strict")
        except ValueError:
            pass
        else:
            # tarfile may leave a long directory's name field empty, which POSIX does not
            # provide for; such a name needs a PAX record.
            if made[:1] != b"\0":
                return made
    return info.create_pax_header(dict(attributes), "utf-8")


@settings(max_examples=400, deadline=None)
@given(
    path=NAMES,
    kind=st.sampled_from(list(Kind)),
    mode=st.integers(0, 0o7777),
    uid=st.sampled_from([0, 1000, 8**7 - 1, 8**7, 2**32 - 2]),
    size=st.sampled_from([0, 1, 512, 8**11 - 1, 8**11, 2**40]),
    link=NAMES,
    device=st.tuples(st.integers(0, 8**7 - 1), st.integers(0, 8**7 - 1)),
)
def test_headers_are_tarfiles_byte_for_byte(path, kind, mode, uid, size, link, device):
    links = {
        Kind.SYMLINK: link.encode(),
        Kind.HARDLINK: link.encode(),
        Kind.CHARACTER: b"%d:%d" % device,
        Kind.BLOCK: b"%d:%d" % device,
    }
    entry = Entry(
        path=path.encode(),
        kind=kind,
        mode=mode,
        uid=uid,
        gid=uid,
        size=size if kind is Kind.FILE else 0,
        link=links.get(kind, b""),
    )
    assert header(entry) == by_tarfile(entry)


@pytest.mark.parametrize("length", [99, 100, 101, 155, 156, 255, 256, 257, 300, 2000])
@pytest.mark.parametrize("kind", [Kind.FILE, Kind.DIRECTORY])
@pytest.mark.parametrize("part", [7, 90, 98, 99, 100, 101, 160])
def test_long_names_are_tarfiles_too(length, kind, part):
    path = "/".join("x" * part for _ in range(length // part + 1))[:length].rstrip("/")
    entry = Entry(path=path.encode(), kind=kind, mode=0o755)
    assert header(entry) == by_tarfile(entry)


def test_names_that_are_not_utf8():
    entry = Entry(path=b"caf\xe9/" + b"\xff" * 120, kind=Kind.FILE, mode=0o644)
    assert header(entry) == by_tarfile(entry)


def read(archive: bytes):
    return tarfile.open(fileobj=io.BytesIO(archive), errorlevel=2)


def stored(root: Path, at: str, profile=Profile.STORE, **more) -> Item:
    """A tree on disk as an item with a true identity."""
    image_path = at.strip("/").encode()
    entries = walk(os.fsencode(root), image_path, profile)
    tree = TreeHash()
    for entry in entries:
        content = blake3(b"".join(map(bytes, blocks(entry)))).digest()
        tree.add(entry, content if entry.kind is Kind.FILE else b"")
    return Item(
        path=at,
        name="tree",
        origin="tree",
        identity=Identity.tree(tree.digest()),
        size=0,
        entries=lambda: iter(walk(os.fsencode(root), image_path, profile)),
        **more,
    )


def packed(*items, options=None) -> bytes:
    cut = list(pack(items, options or ArchiveOptions()))
    assert all(len(block) == BLOCK for block in cut[:-1])
    assert 0 < len(cut[-1]) <= BLOCK
    return b"".join(cut)


@pytest.fixture
def tree(tmp_path) -> Path:
    root = tmp_path / "tree"
    (root / "b").mkdir(parents=True)
    (root / "b-c").mkdir()
    (root / "b" / "file").write_bytes(b"x" * 700)
    (root / "b-c" / "empty").touch()
    (root / "big").write_bytes(random.Random(1).randbytes(3 * BLOCK + 17))
    (root / "link").symlink_to("/gone/away")
    os.link(root / "b" / "file", root / "zz")
    (root / "b" / "file").chmod(0o4751)
    return root


def test_gnu_tar_lists_and_extracts_what_was_packed(tree, tmp_path):
    archive = tmp_path / "a.tar"
    archive.write_bytes(packed(stored(tree, "/opt/app")))
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-C", out, "-xf", archive], check=True, stderr=subprocess.PIPE)
    assert (out / "opt/app/big").read_bytes() == (tree / "big").read_bytes()
    assert os.readlink(out / "opt/app/link") == "/gone/away"
    listed = subprocess.run(
        ["tar", "-tf", archive], check=True, capture_output=True, text=True
    ).stdout.split()
    names = [name.rstrip("/") for name in listed]
    assert names == sorted(names)
    assert names[:2] == ["opt", "opt/app"]


def test_store_profile_normalises(tree):
    with read(packed(stored(tree, "/app"))) as archive:
        members = {member.name: member for member in archive}
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members.values()} == {
        (1, 0, 0, "", "")
    }
    assert members["app/b/file"].mode == 0o755
    assert members["app/zz"].isreg()
    assert members["app/zz"].size == 700


def test_tree_profile_keeps_modes_and_hard_links(tree):
    options = ArchiveOptions(profile=Profile.TREE)
    with read(packed(stored(tree, "/app", Profile.TREE), options=options)) as archive:
        members = {member.name: member for member in archive}
    assert members["app/b/file"].mode == 0o4751
    assert members["app/zz"].islnk()
    assert members["app/zz"].linkname == "app/b/file"
    assert members["app/big"].uid == os.getuid()


def test_parents_come_from_the_source_or_are_roots(tree):
    known = Entry(path=b"srv/x", kind=Kind.DIRECTORY, mode=0o700, uid=7)
    # A NAR identity is on the store's word, so the parents of this item go unchecked.
    item = Item(
        path="/srv/x/y",
        name="y",
        origin="y",
        identity=Identity.nar(Digest.of(b"")),
        size=0,
        entries=lambda: iter(walk(os.fsencode(tree), b"srv/x/y", Profile.STORE)),
        parents=(known,),
    )
    with read(packed(item)) as archive:
        first = [(m.name, m.mode, m.uid) for m in archive][:3]
    assert first == [("srv", 0o755, 0), ("srv/x", 0o700, 7), ("srv/x/y", 0o755, 0)]
    omitted = ArchiveOptions(parents=Parents.OMITTED)
    with read(packed(item, options=omitted)) as archive:
        assert archive.next().name == "srv/x/y"


def test_items_that_interleave_are_still_sorted(tmp_path):
    items = []
    for name in ("app", "app-b", "app/in", "app0", "b"):
        root = tmp_path / name.replace("/", "_")
        root.mkdir()
        (root / "f").write_text(name)
        items.append(stored(root, f"/{name}"))
    with read(packed(*items)) as archive:
        names = [member.name for member in archive]
    assert names == sorted(names)
    assert packed(*items) == packed(*reversed(items))


def test_an_item_may_lie_in_several_places(tmp_path):
    """As a Python distribution does: `_yaml`, `yaml` and `PyYAML-6.0.dist-info`."""

    def entries(*names):
        return [Entry(path=name.encode(), kind=Kind.FILE, mode=0o644) for name in names]

    def made(path, found):
        tree = TreeHash()
        for entry in found:
            tree.add(entry, blake3().digest())
        identity = Identity.tree(tree.digest())
        return Item(path=path, name="x", origin="x", identity=identity, size=0,
                    entries=lambda: iter(found))  # fmt: skip

    yaml = made("/s/_yaml", entries("s/PyYAML.dist-info", "s/_yaml", "s/yaml"))
    click = made("/s/click", entries("s/Click.dist-info", "s/click"))
    with read(packed(yaml, click)) as archive:
        names = archive.getnames()
    assert names == sorted(names)
    assert len(names) == 6


def test_two_items_cannot_own_one_path(tmp_path):
    (tmp_path / "f").write_text("")
    one, two = stored(tmp_path, "/a"), stored(tmp_path, "/a")
    with pytest.raises(SourceError, match="/a"):
        packed(one, two)


@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite", "remove", "add", "chmod"])
def test_a_tree_that_changed_since_it_was_named_is_not_packed(tree, change):
    item = stored(tree, "/app")
    file = tree / "b" / "file"
    match change:
        case "grow":
            file.write_bytes(b"x" * 701)
        case "shrink":
            file.write_bytes(b"x" * 699)
        case "rewrite":
            file.write_bytes(b"y" * 700)
        case "remove":
            file.unlink()
        case "add":
            (tree / "new").touch()
        case "chmod":
            file.chmod(0o400)
    with pytest.raises(SourceError, match="changed"):
        packed(item)


@pytest.mark.parametrize("how", ["append", "truncate", "overwrite", "remove", "fifo", "symlink"])
def test_a_file_that_changes_after_it_was_listed_is_an_error(tmp_path, how):
    file = tmp_path / "f"
    file.write_bytes(b"a" * (2 * BLOCK))
    item = Item(
        path="/app",
        name="app",
        origin="app",
        identity=Identity.nar(Digest.of(b"")),
        size=0,
        entries=lambda: iter(walk(os.fsencode(tmp_path), b"app", Profile.STORE)),
    )
    stream = pack([item], ArchiveOptions())
    if how not in ("append", "truncate", "overwrite"):
        listed = walk(os.fsencode(tmp_path), b"app", Profile.STORE)
        item = Item(**{**_fields(item), "entries": lambda: iter(listed)})
        stream = pack([item], ArchiveOptions())
        file.unlink()
        {
            "remove": lambda: None,
            "fifo": lambda: os.mkfifo(file),
            "symlink": lambda: file.symlink_to("/etc/passwd"),
        }[how]()
    else:
        next(stream)
        with file.open("r+b") as handle:
            {
                "append": lambda: (handle.seek(0, 2), handle.write(b"b")),
                "truncate": lambda: handle.truncate(100),
                "overwrite": lambda: handle.write(b"b"),
            }[how]()
    with pytest.raises(SourceError, match=r"/f: "):
        list(stream)


def _fields(item):
    return {name: getattr(item, name) for name in item.__slots__}


def test_generated_content_in_memory():
    file = Entry(path=b"etc/motd", kind=Kind.FILE, mode=0o644, size=3, content=b"hi\n")
    item = Item(
        path="(made)",
        name="made",
        origin="made",
        identity=Identity.nar(Digest.of(b"")),
        size=3,
        entries=lambda: iter([file]),
        parents=(Entry(path=b"etc", kind=Kind.DIRECTORY, mode=0o755),),
        role=Role.GENERATED,
    )
    with read(packed(item)) as archive:
        assert archive.getnames() == ["etc", "etc/motd"]
        assert archive.extractfile("etc/motd").read() == b"hi\n"


def test_golden_vector():
    """Fails when the packer's bytes change: then RECIPE_VERSION must be raised with it."""
    entries = [
        Entry(path=b"app", kind=Kind.DIRECTORY, mode=0o755),
        Entry(path=b"app/" + b"d" * 120, kind=Kind.FILE, mode=0o644, size=5, content=b"hello"),
        Entry(path="app/é".encode(), kind=Kind.SYMLINK, mode=0o777, link=b"/x"),
        Entry(path=b"app/z", kind=Kind.HARDLINK, mode=0o644, link=b"app/" + b"d" * 120),
    ]
    item = Item(
        path="/app",
        name="app",
        origin="app",
        identity=Identity.nar(Digest.of(b"")),
        size=5,
        entries=lambda: iter(entries),
    )
    got = hashlib.sha256(packed(item)).hexdigest()
    # Made once with this packer, then read back and compared by GNU tar and tarfile above.
    assert got == "9e106454c53975f9fe2b78dd69ec7c28e793bbd6fccaf135649bcc930e71926d"


def test_golden_identity():
    """Directory recipes in images that exist rest on this; it changes with RECIPE_VERSION only.

    The expected digest is of the bytes that TreeHash's docstring describes, written by hand.
    """
    tree = TreeHash()
    tree.add(Entry(path=b"app", kind=Kind.DIRECTORY, mode=0o755))
    file = Entry(path=b"app/f", kind=Kind.FILE, mode=0o644, uid=7, gid=8, size=2, content=b"hi")
    tree.add(file, blake3(b"hi").digest())
    attributes = ((b"user.a", b"b"),)
    tree.add(Entry(path=b"app/l", kind=Kind.SYMLINK, mode=0o777, link=b"/x", xattrs=attributes))
    written = (
        b"d 755 0 0 0 3 0 0\napp"
        b"f 644 7 8 2 5 0 0\napp/f" + blake3(b"hi").digest() + b"l 777 0 0 0 5 2 1\napp/l/x"
        b"6 1\nuser.ab"
    )
    assert tree.digest() == Digest.of(written)


def test_attributes_are_what_tarfile_reads():
    names = ((b"security.capability", b"\x01\0\0\x02"), (b"user.note", "é\n".encode()))
    entry = Entry(path=b"f", kind=Kind.FILE, mode=0o755, uid=8**7, xattrs=names)
    with read(header(entry) + bytes(1024)) as archive:
        (member,) = archive.getmembers()
    assert member.uid == 8**7
    assert member.pax_headers["SCHILY.xattr.security.capability"] == "\x01\0\0\x02"
    assert member.pax_headers["SCHILY.xattr.user.note"] == "é\n"


def test_content_is_on_disk_by_default(tree):
    (entry,) = [e for e in walk(os.fsencode(tree), b"t", Profile.STORE) if e.path == b"t/big"]
    assert isinstance(entry.content, OnDisk)


@pytest.mark.parametrize("size", [0, 100, BLOCK - 700, 5 * BLOCK])
def test_a_file_is_looked_at_before_anything_of_it_is_handed_out(tmp_path, size):
    """Also where its first bytes fill the very end of a block."""
    (tmp_path / "a").write_bytes(b"a" * (BLOCK - 2048))
    secret = tmp_path / "b"
    secret.write_bytes(random.Random(3).randbytes(size))
    seen = []

    class Stop(Exception):
        pass

    def look(entry, data, start, end):
        if entry.path == b"app/b":
            seen.append(bytes(data[start:end]))
            raise Stop

    item = stored(tmp_path, "/app", look=look)
    handed = []
    with pytest.raises(Stop):
        handed += pack([item], ArchiveOptions())
    assert seen == [secret.read_bytes()[:65536]]
    assert secret.read_bytes()[:50] not in b"".join(handed) or size == 0


def test_what_an_item_is_may_be_found_out_by_packing_it(tree):
    known = stored(tree, "/app")
    archive = Archive([replace(known, identity=None)], ArchiveOptions())
    block = bytearray(BLOCK)
    while not archive.readinto(block).is_last:
        pass
    assert archive.identities == (("/app", known.identity),)


@given(st.lists(st.lists(st.sampled_from("abcdefghij"), max_size=8), max_size=6))
def test_streams_are_merged_as_the_standard_library_does(names):
    streams = [
        [(Entry(path=name.encode(), kind=Kind.FILE, mode=0), number, None) for name in sorted(some)]
        for number, some in enumerate(names)
    ]
    expected = list(heapq.merge(*streams, key=lambda member: member[0].path))
    assert list(_merged([iter(one) for one in streams])) == expected
