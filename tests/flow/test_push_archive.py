"""Archives of root file systems as targets, in files and in pipes, beside what GNU tar unpacks."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from regpush.concurrency import Cancellation
from regpush.options import SourceOptions
from regpush.sources.archive import source
from regpush.sources.surroundings import refused
from tests.bases import OFFICIAL
from tests.containers import Container, running
from tests.images import assert_same_tree, tree, unpack
from tests.patience import HANG_S
from tests.program import Outcome, environment, push, regpush
from tests.registry.parts import real_part
from tests.registry.servers import Registry

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="owners and devices need root")

QUIET = ("--entrypoint", "")

_SMALL_SPOOL = """
import os, sys
from regpush.sources.archive import cutting, source
source.SPOOL, cutting._FIRST, cutting._APART = 1 << 20, 128 << 10, 64 << 10
from regpush.cli.app import run
sys.exit(run(sys.argv[1:], os.environ))
"""
"""regpush with layers of 128 KiB and a spool of 1 MiB: archives of the tests are large ones."""


def piped(archive: Path | bytes, *arguments: object, program: str = "") -> Outcome:
    """regpush with an archive on standard input, which is a pipe."""
    start = ["-c", program] if program else ["-m", "regpush"]
    done = subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        input=archive if isinstance(archive, bytes) else archive.read_bytes(),
        capture_output=True,
        env=environment(),
        timeout=HANG_S,
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def small_spool(archive: Path, to: str, *flags: str) -> Outcome:
    words = ("-", "--to", to, "--format", "json", "--no-cache", *QUIET, *flags)
    return piped(archive, *words, program=_SMALL_SPOOL)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with everything that one may hold."""
    top = tmp_path_factory.mktemp("archive") / "root"
    for name, mode in {"etc": 0o755, "tmp": 0o1777, "root": 0o700, "usr/bin": 0o755}.items():
        (top / name).mkdir(parents=True)
        (top / name).chmod(mode)
    (top / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:7:7::/:/bin/sh\n")
    (top / "usr/bin/su").write_bytes(os.urandom(70_000))
    (top / "usr/bin/su").chmod(0o4755)
    os.link(top / "usr/bin/su", top / "usr/bin/a-su")
    os.link(top / "usr/bin/su", top / "etc/su")
    (top / "bin").symlink_to("usr/bin")
    (top / "etc/gone").symlink_to("/nowhere")
    deep = top / ("usr/share/" + "x" * 120) / ("y" * 120)
    deep.mkdir(parents=True)
    (deep / "größe").write_text("long\n")
    (deep / "empty").touch()
    for number in range(40):
        (top / f"usr/bin/tool{number:02}").write_bytes(os.urandom(50_000 + number))
    if os.getuid() == 0:
        os.mknod(top / "etc/null", 0o20666, os.makedev(1, 3))
        os.mkfifo(top / "etc/pipe", 0o640)
        os.chown(top / "etc/su", 3, 4)
        os.chown(deep, 2_500_000, 70_000)
        os.setxattr(top / "usr/bin/tool00", "user.note", b"\0odd\n")
    return top


def archived(root: Path, path: Path, *flags: str) -> Path:
    words = ["tar", "-C", root, "--sort=name", *(flags or ("--xattrs",)), "-cf", path, "."]
    subprocess.run(words, check=True)
    return path


@pytest.fixture(scope="module")
def archive(root: Path) -> Path:
    return archived(root, root.parent / "root.tar")


@needs_root
@pytest.mark.parametrize("flags", [(), ("--format=gnu",), ("--format=pax",)], ids=str)
def test_what_is_in_it_is_in_the_image(
    docker_registry: Registry, repository: str, root: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    to = f"{docker_registry.host}/{repository}"
    done = push(archived(root, tmp_path / "a.tar", *flags), to, *QUIET).ok()
    assert done.stderr.count("warning") == 0
    got = unpack(to, tmp_path)
    assert_same_tree(tree(got), tree(root))
    status = (got / "etc/null").lstat()
    assert (os.major(status.st_rdev), os.minor(status.st_rdev)) == (1, 3)
    if not flags:
        assert os.getxattr(got / "usr/bin/tool00", "user.note") == b"\0odd\n"


@needs_root
def test_it_runs(docker_registry: Registry, repository: str, tmp_path: Path) -> None:
    """A compressed root file system from a pipe, in a container of runc."""
    to = f"{docker_registry.host}/{repository}:latest"
    packed, _ = OFFICIAL["docker.io/library/debian:stable-slim"]()
    start = ("--entrypoint", "/bin/sh -c 'echo hello from $0'")
    piped(packed, "-", "--to", to, "--no-cache", "--strict", *start).ok()
    with running(Container(image=to, port=0), tmp_path) as (process, _):
        assert process.communicate(timeout=HANG_S)[0] == "hello from /bin/sh\n"


@pytest.mark.soak
@needs_root
def test_archives_of_mmdebstrap_and_podman(
    docker_registry: Registry, repository: str, tmp_path: Path
) -> None:
    """Each as a file and in a pipe: the program runs, and nothing is sent again."""
    made = {name: tmp_path / f"{name}.tar" for name in ("mmdebstrap", "podman")}
    small = ("--variant=extract", "--include=busybox-static", "--mode=root", "bookworm")
    real(("mmdebstrap", *small, str(made["mmdebstrap"])))
    with tempfile.TemporaryDirectory() as short:  # podman wants at most 50 characters
        podman = ("podman", "--root", f"{short}/a", "--runroot", f"{short}/b")
        podman += ("--storage-driver", "vfs")
        real((*podman, "import", "-q", str(made["mmdebstrap"]), "regpush-base"))
        container = real((*podman, "create", "localhost/regpush-base", "/bin/busybox"))
        real((*podman, "export", "-o", str(made["podman"]), container))
    start = ("--entrypoint", "/bin/busybox echo hello")
    for name, archive in made.items():
        to = f"{docker_registry.host}/{repository}/{name}:latest"
        first = push(archive, to, "--no-cache", *start).ok().report
        piped_again = piped(archive, "-", "--to", to, "--format", "json", "--no-cache", *start)
        for again in (push(archive, to, "--no-cache", *start), piped_again):
            assert again.ok().report["digest"] == first["digest"]
            assert again.report["bytes"]["uploaded"] == 0
        with running(Container(image=to, port=0), tmp_path / name) as (process, _):
            assert process.communicate(timeout=HANG_S)[0] == "hello\n"


def real(command: tuple[str, ...]) -> str:
    """The last word that a real program says on stdout; it must succeed."""
    done = subprocess.run(
        [real_part(command[0]), *command[1:]], capture_output=True, text=True, timeout=5 * HANG_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().rpartition("\n")[2]


def test_it_is_the_same_image_however_it_comes(
    docker_registry: Registry, repository: str, root: Path, archive: Path, tmp_path: Path
) -> None:
    """As a file, compressed, in a pipe, by its prefix, with other dates in it."""
    to = f"{docker_registry.host}/{repository}"
    first = push(archive, f"{to}/file", *QUIET).ok().report
    others = {"gz": "--gzip", "zst": "--zstd", "dates": "--mtime=@7"}
    for name, flag in others.items():
        one = archived(root, tmp_path / f"root.{name}", "--xattrs", flag)
        assert push(one, f"{to}/{name}", *QUIET).ok().report["digest"] == first["digest"], name
    words = ("--to", f"{to}/pipe", "--format", "json", "--no-cache", *QUIET)
    assert piped(archive, "-", *words).ok().report["digest"] == first["digest"]
    fed = subprocess.run(
        f"'{sys.executable}' -m regpush tar:<(cat '{archive}') {' '.join(words[:-1])} ''",
        shell=True, executable="/bin/bash", env=environment(), capture_output=True, check=True,
    )  # fmt: skip
    assert json.loads(fed.stdout)["digest"] == first["digest"]


def test_nothing_is_sent_where_nothing_changed(
    docker_registry: Registry, repository: str, archive: Path
) -> None:
    to = f"{docker_registry.host}/{repository}"
    words = ("-", "--to", to, "--format", "json", "--no-cache", *QUIET)
    piped(archive, *words).ok()
    again = piped(archive, *words).ok().report
    assert again["bytes"]["uploaded"] == 0
    planned = piped(archive, "plan", *words).ok().report
    assert planned["bytes"]["uploaded"] == 0
    assert planned["digest"] in (again["digest"], None)


def test_a_stream_larger_than_the_spool(
    docker_registry: Registry, repository: str, root: Path, archive: Path, tmp_path: Path
) -> None:
    to = f"{docker_registry.host}/{repository}"
    first = small_spool(archive, to).ok()
    assert "layers are sent while it is read" in first.stderr
    layers = first.report["images"][0]["layers"]
    assert len(layers) > 10
    assert {layer["action"] for layer in layers} == {"uploaded"}
    if os.getuid() == 0:
        got = tree(unpack(to, tmp_path))
        want = tree(root)
        # Names of one file that lie in several layers are several files.
        plain = [{path: node.__class__(**{**_fields(node), "links": ()}) for path, node in
                  side.items()} for side in (got, want)]  # fmt: skip
        assert_same_tree(*plain)
    again = small_spool(archive, to).ok().report
    assert again["digest"] == first.report["digest"]
    assert again["bytes"]["uploaded"] == 0
    (root / "usr/bin/tool20").write_bytes(os.urandom(50_020))
    changed = small_spool(archived(root, tmp_path / "b.tar"), to).ok().report
    uploaded = [one for one in changed["images"][0]["layers"] if one["action"] == "uploaded"]
    assert 1 <= len(uploaded) <= 2


def test_tags_that_stay_are_looked_at_before_a_large_stream_is_sent(
    docker_registry: Registry, repository: str, archive: Path
) -> None:
    """Blobs that no image names would lie in the registry until its garbage collection."""
    to = f"{docker_registry.host}/{repository}"
    held = piped(made(entry("other", size=9)), "-", "--to", to, "--format", "json", *QUIET).ok()
    skipped = small_spool(archive, to, "--if-exists", "skip").ok()
    assert (skipped.report["digest"], skipped.report["changed"]) == (held.report["digest"], False)
    assert skipped.report["bytes"]["uploaded"] == 0
    assert "layers are sent while it is read" not in skipped.stderr
    failed = small_spool(archive, to, "--if-exists", "fail")
    failed.failed(6, "exists", "--if-exists fail")
    assert "layers are sent while it is read" not in failed.stderr
    other = small_spool(archive, f"{to}:new", "--if-exists", "fail").ok()
    assert other.report["bytes"]["uploaded"] > 1 << 20


def test_a_strategy_without_effect_is_said(
    docker_registry: Registry, repository: str, archive: Path
) -> None:
    words = (archive, "--to", f"{docker_registry.host}/{repository}", *QUIET)
    assert "--layers origin has no effect" in regpush(*words, "--layers", "origin").ok().stderr
    for flags in ((), ("--layers", "single")):
        assert "no effect" not in regpush(*words, *flags).ok().stderr


def _fields(node: object) -> dict[str, object]:
    return {name: getattr(node, name) for name in node.__slots__}  # type: ignore[attr-defined]


def test_what_needs_all_of_it_wants_a_file(
    docker_registry: Registry, repository: str, archive: Path
) -> None:
    to = f"{docker_registry.host}/{repository}"
    small_spool(archive, to, "--max-upload", "1GB").failed(2, "write it to an uncompressed file")
    words = ("-", "--to", to, *QUIET)
    piped(archive, *words, "--platform", "linux/amd64,linux/arm64").failed(
        2, "for one platform only"
    )
    piped(archive, *words, "--chown", "1:1").failed(2, "owners and modes cannot be changed")
    piped(archive, *words, "--root-dir", "/srv").failed(2, "always placed at /")
    piped(archive, *words, "-u", "me", "--password-stdin").failed(2, "--password-stdin")
    regpush("-", "--to", to, *QUIET).failed(2, "is empty")


def entry(name: str, kind: bytes = tarfile.REGTYPE, **more: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in more.items():
        setattr(info, key, value)
    return info


def made(*entries: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for one in entries:
            tar.addfile(one, io.BytesIO(b"x" * one.size) if one.size else None)
    return out.getvalue()


def sparse() -> bytes:
    return made(entry("s", tarfile.GNUTYPE_SPARSE))


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "above": (lambda: made(entry("../etc/x")), "has a '..' or a zero byte"),
    "whiteout": (lambda: made(entry("etc/.wh.passwd")), "a layer deletes files"),
    "opaque": (lambda: made(entry("etc/.wh..wh..opq")), "a layer deletes files"),
    "below a link": (
        lambda: made(entry("lib", tarfile.SYMTYPE, linkname="usr"), entry("lib/x")),
        "is in lib, which is not a directory",
    ),
    "file and folder": (lambda: made(entry("a"), entry("a", tarfile.DIRTYPE)), "as another kind"),
    "link to nothing": (
        lambda: made(entry("a", tarfile.LNKTYPE, linkname="b")), "not a file before it",
    ),
    "link above": (
        lambda: made(entry("a", tarfile.LNKTYPE, linkname="../b")), "has a '..' or a zero byte",
    ),
    "sparse": (sparse, "sparse file"),
    "odd kind": (lambda: made(entry("a", b"V")), "an image cannot contain it"),
    "owner": (lambda: made(entry("a", uid=2**40)), "bad owner"),
    "cut short": (lambda: made(entry("a", size=9), entry("b", size=9))[:1024], "no end marker"),
    "cut in a file": (lambda: made(entry("a", size=5000))[:1500], "middle of a file"),
    "garbage": (lambda: made(entry("a"))[:512] + b"y" * 512, "not a complete archive"),
    "nothing": (lambda: made(), "not a tar archive"),
    "only the root": (lambda: made(entry("./", tarfile.DIRTYPE)), "without entries"),
    "gzip of garbage": (lambda: b"\x1f\x8b" + b"y" * 600, "not a complete archive"),
    "zstd of garbage": (lambda: b"\x28\xb5\x2f\xfd" + b"\xff" * 600, "not a complete archive"),
    "text": (lambda: b"hello\n" * 200, "not a tar archive"),
    "an image": (lambda: made(entry("oci-layout"), entry("index.json")), "is a saved image"),
    "a secret": (lambda: made(entry("root/.aws/credentials", size=3)), "--allow-secret"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_archives_that_no_image_can_hold(
    docker_registry: Registry, repository: str, name: str
) -> None:
    make, said = HOSTILE[name]
    to = f"{docker_registry.host}/{repository}"
    piped(make(), "-", "--to", to, "--no-cache", *QUIET).failed(2, said)
    regpush("inspect", to).failed(4, "no such image")


def test_a_path_that_comes_twice(docker_registry: Registry, repository: str) -> None:
    """As tar unpacks it: the last one stays."""
    to = f"{docker_registry.host}/{repository}"
    old, new = entry("a", size=3), entry("a", size=5)
    piped(made(old, entry("b"), new), "-", "--to", to, "--no-cache", *QUIET).ok()
    words = [real_part("skopeo"), "inspect", "--raw", "--tls-verify=false", f"docker://{to}"]
    manifest = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    assert len(manifest["layers"]) == 2


def test_links_to_what_was_let_go_are_refused(
    docker_registry: Registry, repository: str, tmp_path: Path
) -> None:
    to = f"{docker_registry.host}/{repository}"
    many = [entry(f"usr/{number:03}", size=60_000) for number in range(60)]
    far = made(entry("a", size=900), *many, entry("z", tarfile.LNKTYPE, linkname="a"))
    (tmp_path / "far.tar").write_bytes(far)
    small_spool(tmp_path / "far.tar", to).failed(2, "z is a hard link to a", "uncompressed file")
    words = (tmp_path / "far.tar", "--to", to, "--format", "json", "--no-cache", *QUIET)
    done = subprocess.run(
        [sys.executable, "-c", _SMALL_SPOOL, *map(str, words)],
        capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_standard_input_that_is_a_socket(
    docker_registry: Registry, repository: str, archive: Path
) -> None:
    """As under some CI runners and inetd; what it gives is read as from a pipe."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "regpush", "-", "--to",
             f"{docker_registry.host}/{repository}", "--no-cache", *QUIET],
            stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
        )  # fmt: skip
        theirs.close()
        ours.sendall(archive.read_bytes())
        ours.close()
        assert process.communicate(timeout=HANG_S)[1].find(b"regpush:") < 0
    assert process.returncode == 0


@pytest.mark.parametrize("most", [2, 3, 6])
def test_a_link_beside_it_finds_room(
    docker_registry: Registry, repository: str, archive: Path, most: int
) -> None:
    """regpush adds a layer for `--symlink`: the cuts leave room for it."""
    to = f"{docker_registry.host}/{repository}"
    flags = ("--max-layers", str(most), "--symlink", "/started=/bin")
    report = json.loads(small_spool(archive, to, *flags).ok().stdout)
    assert len(report["images"][0]["layers"]) <= most


def test_a_link_beside_an_archive_in_one_layer_is_refused(
    docker_registry: Registry, repository: str, archive: Path
) -> None:
    to = f"{docker_registry.host}/{repository}"
    flags = ("--max-layers", "1", "--symlink", "/started=/bin")
    said = small_spool(archive, to, *flags)
    said.failed(2, "cut into 1 layers, and regpush adds one", "--max-layers 2")


def test_a_file_may_be_a_program_of_another_platform(tmp_path: Path) -> None:
    program = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\xb7\0" + bytes(44)  # aarch64
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = entry("usr/bin/app", size=len(program), mode=0o755)
        tar.addfile(info, io.BytesIO(program))
        tar.addfile(entry("bin", tarfile.SYMTYPE, linkname="usr/bin"))
    (tmp_path / "a.tar").write_bytes(out.getvalue())
    _, closure = source.resolve(
        str(tmp_path / "a.tar"), SourceOptions(), 64, refused, Cancellation()
    )
    assert [str(platform) for platform in closure.programs[0]().read()] == ["linux/arm64"]
    assert closure.inside
    found = closure.inside.find("/bin/app")
    assert found
    assert (found.start, found.mode) == (program, 0o755)
