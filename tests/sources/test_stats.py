"""The stat index: what it spares, and everything that must not fool it.

What is read is seen by an audit hook on `open`, outside our code.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from regpush.closure import Closure
from regpush.concurrency import Cancellation
from regpush.errors import UsageError
from regpush.events import ignore
from regpush.files.open_root import OpenRoot
from regpush.options import SourceOptions
from regpush.sources.identity import forget, identify, remember
from regpush.sources.stats import Stats
from regpush.sources.targets import resolve
from regpush.sources.tools import Workshop
from tests.sources.conftest import REPOSITORY, Write

LATER_NS = 3_000_000_000
APP = {
    "main.py": "print('hello')\n",
    "lib/util.py": "x = 1\n",
    "node_modules/express/index.js": "module.exports = 1\n",
    "node_modules/debug/index.js": "debug",
}


def changed_ns(root: Path) -> int:
    """When a file below `root` changed last: a busy machine may be seconds further on."""
    return max(path.lstat().st_ctime_ns for path in (root, *root.rglob("*")))


class Machine:
    """One cache directory, and the app as pushes see it, `later_ns` after its last change."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.root = root
        self.cache = cache

    def push(
        self, *, later_ns: int = LATER_NS, cache: bool = True, **options: object
    ) -> tuple[Closure, set[str]]:
        """The identified closure, and which files of the app it took reading."""
        stop, stats = Cancellation(), Stats(str(self.cache) if cache else None)
        source = SourceOptions(**options)  # type: ignore[arg-type]  # named by keyword
        closure = resolve([str(self.root)], source, (), workshop=Workshop(ignore, stop))
        read: set[str] = set()
        really_open = OpenRoot.open

        def open_and_note(root: OpenRoot, path: bytes) -> int:
            read.add(os.path.relpath(os.fsdecode(root.on_disk(path)), self.root))
            return really_open(root, path)

        with mock.patch.object(OpenRoot, "open", open_and_note):
            closure = identify(closure, stats, stop, now_ns=changed_ns(self.root) + later_ns)
        return closure, read

    def read(self, **options: object) -> set[str]:
        return self.push(**options)[1]  # type: ignore[arg-type]


@pytest.fixture
def machine(write: Write, tmp_path: Path) -> Machine:
    return Machine(write(APP), tmp_path / "cache/regpush")


def test_what_did_not_change_is_not_read_again(machine: Machine, write: Write) -> None:
    first, read = machine.push()
    assert read == set(APP)
    second, read = machine.push()
    assert read == set()
    assert second == first
    write({"node_modules/debug/index.js": "other"})
    third, read = machine.push()
    assert read == {"node_modules/debug/index.js"}
    assert third == machine.push(cache=False)[0] != first


def test_no_cache_ignores_and_leaves_it(machine: Machine) -> None:
    assert machine.read(cache=False) == set(APP)
    assert not machine.cache.exists()
    machine.push()
    assert machine.read(cache=False) == set(APP)


def same_size(root: Path) -> None:
    (root / "main.py").write_text("print('HELLO')\n")


def mtime_set_back(root: Path) -> None:
    before = (root / "main.py").stat()
    same_size(root)
    os.utime(root / "main.py", ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced_by_another(root: Path) -> None:
    before = (root / "main.py").stat()
    (root / "new").write_text("print('HELLO')\n")
    os.utime(root / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (root / "new").replace(root / "main.py")


def written_by_another_name(root: Path) -> None:
    (root.parent / "elsewhere").hardlink_to(root / "main.py")
    (root.parent / "elsewhere").write_text("print('HELLO')\n")


CHANGES: dict[str, Callable[[Path], object]] = {
    "same size": same_size,
    "mtime set back": mtime_set_back,
    "replaced": replaced_by_another,
    "by another name": written_by_another_name,
    "renamed": lambda root: (root / "main.py").rename(root / "main2.py"),
    "added": lambda root: (root / "lib/more").touch(),
    "removed": lambda root: (root / "lib/util.py").unlink(),
    "link": lambda root: (root / "link").symlink_to("main.py"),
    "empty folder": lambda root: (root / "empty").mkdir(),
    "mode of a file": lambda root: (root / "main.py").chmod(0o755),
    "mode of a folder": lambda root: (root / "lib").chmod(0o500),
    "folders swapped": lambda root: (root / "lib").rename(root / "lib2"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_seen(machine: Machine, change: str) -> None:
    before = machine.push()[0]
    CHANGES[change](machine.root)
    after, read = machine.push()
    assert read
    assert "node_modules/debug/index.js" not in read
    assert after == machine.push(cache=False)[0]
    assert after["/app"] != before["/app"]


def test_a_link_that_points_elsewhere_is_another_item(machine: Machine) -> None:
    (machine.root / "link").symlink_to("main.py")
    before = machine.push()[0]
    (machine.root / "link").unlink()
    (machine.root / "link").symlink_to("lib/util.py")
    after = machine.push()[0]
    assert after == machine.push(cache=False)[0] != before


def test_a_parent_is_part_of_what_an_item_is(machine: Machine) -> None:
    before = machine.push(root_dir="/")[0]
    (machine.root / "node_modules").chmod(0o700)
    after = machine.push(root_dir="/")[0]
    assert after == machine.push(root_dir="/", cache=False)[0]
    assert after["/node_modules/debug"] != before["/node_modules/debug"]


@pytest.mark.parametrize("later_ns", [0, 1_900_000_000, -3600 * 10**9])
def test_what_was_touched_just_now_or_in_the_future_is_not_trusted(
    machine: Machine, later_ns: int
) -> None:
    """As git does with racy entries: the next write may leave every time as it is."""
    assert machine.read(later_ns=later_ns) == set(APP)
    assert machine.read(later_ns=later_ns) == set(APP)


def test_only_items_with_fresh_files_are_read_again(machine: Machine) -> None:
    future = time.time() + 3600
    os.utime(machine.root / "lib/util.py", (future, future))
    machine.push()
    assert machine.read() == {"main.py", "lib/util.py"}


@pytest.mark.parametrize(
    "options", [{"root_dir": "/srv"}, {"preserve": True}, {"preserve_xattrs": True}]
)
def test_other_options_are_another_tree(machine: Machine, options: dict[str, object]) -> None:
    machine.push()
    assert machine.read(**options) == set(APP)
    assert machine.read(**options) == set()
    assert machine.read() == set()


def test_attributes_count_where_they_are_kept(machine: Machine) -> None:
    try:
        os.setxattr(machine.root / "lib", "user.note", b"1")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    before = machine.push(preserve_xattrs=True)[0]
    os.setxattr(machine.root / "lib", "user.note", b"2")
    after = machine.push(preserve_xattrs=True)[0]
    assert after == machine.push(preserve_xattrs=True, cache=False)[0] != before


def test_ignore_rules_decide_what_is_listed(machine: Machine, write: Write) -> None:
    before = machine.push()[0]
    write({".regpushignore": "util.py\n"})
    after = machine.push()[0]
    assert after == machine.push(cache=False)[0] != before


def test_a_secret_once_allowed_is_refused_without(machine: Machine, write: Write) -> None:
    write({"key.ppk": "PuTTY-User-Key-File-3: ssh-ed25519\n"})
    machine.push(allow_secrets=("key.ppk",))
    assert machine.read(allow_secrets=("key.ppk",)) == set()
    for _ in range(2):
        with pytest.raises(UsageError, match="looks like a secret"):
            machine.push()
    assert machine.read(allow_secrets=("key.ppk",)) == set()


def test_a_copy_elsewhere_is_read(machine: Machine, tmp_path: Path) -> None:
    machine.push()
    copy = tmp_path / "copy/app"
    copy.parent.mkdir()
    machine.root.rename(copy)
    moved = Machine(copy, machine.cache)
    assert moved.read() == set(APP)


def test_packing_may_leave_what_it_read(machine: Machine) -> None:
    stop, stats = Cancellation(), Stats(str(machine.cache))
    known = machine.push(cache=False)[0]
    remember(known, stats, read_ns=changed_ns(machine.root))
    assert machine.read(later_ns=0) == set(APP), "too fresh"
    remember(known, stats, read_ns=changed_ns(machine.root) + LATER_NS)
    assert machine.read() == set()
    forget(known, stats)
    assert machine.read() == set(APP)
    assert not stop.cancelled


_PRINT_STAMPS = """
import sys
from regpush.concurrency import Cancellation
from regpush.events import ignore
from regpush.options import SourceOptions
from regpush.sources.targets import resolve
from regpush.sources.tools import Workshop
source = SourceOptions(preserve=True)
closure = resolve(sys.argv[1:], source, (), workshop=Workshop(ignore, Cancellation()))
print([(item.path, item.stamp.tree.hex(), item.stamp.fingerprint.hex()) for item in closure.items])
"""


def test_every_process_takes_the_same_stamps(machine: Machine, write: Write) -> None:
    """Of divided code with links in it, whatever order the names have in a set."""
    folders = [f"part{number}" for number in range(6)]
    recorded = "".join(f"{folder}/__init__.py,,\n" for folder in folders)
    write({f"site-packages/{folder}/__init__.py": folder for folder in folders})
    write({"site-packages/parts-1.0.dist-info/RECORD": recorded})
    write({f"loose/{number}": bytes(100_000) for number in range(120)})
    write({f"node_modules/debug/{number}": bytes(100_000) for number in range(120)})
    (machine.root / "loose/linked").hardlink_to(machine.root / "lib/util.py")
    seen = {
        subprocess.run(
            [sys.executable, "-c", _PRINT_STAMPS, str(machine.root)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(REPOSITORY)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1
    assert seen.pop().count(b"loose") > 3


def damaged(cache: Path) -> None:
    (cache / "stats-1.sqlite").write_bytes(b"SQLite format 3\0" + bytes(5000))


def of_another_shape(cache: Path) -> None:
    (cache / "stats-1.sqlite").unlink()
    with sqlite3.connect(cache / "stats-1.sqlite") as database:
        database.execute("CREATE TABLE items (other)")
    database.close()


def with_other_values(cache: Path) -> None:
    with sqlite3.connect(cache / "stats-1.sqlite") as database:
        database.execute("UPDATE items SET digest = 7")
    database.close()


def in_the_way(cache: Path) -> None:
    (cache / "stats-1.sqlite").unlink()
    (cache / "stats-1.sqlite").mkdir()


@pytest.mark.parametrize("harm", [damaged, of_another_shape, with_other_values, in_the_way])
def test_a_bad_index_costs_only_time(machine: Machine, harm: Callable[[Path], None]) -> None:
    known = machine.push()[0]
    harm(machine.cache)
    again, read = machine.push()
    assert again == known
    assert read == set(APP)


@pytest.fixture
def locked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("regpush.sources.stats._WAIT_S", 0.01)
    machine.push()
    database = sqlite3.connect(machine.cache / "stats-1.sqlite", isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    yield
    database.close()


def test_a_locked_index_costs_only_time(machine: Machine, locked: None) -> None:
    assert machine.read() == set(APP)


def test_a_cache_that_cannot_be_made_costs_only_time(machine: Machine, write: Write) -> None:
    blocked = Machine(machine.root, write({"../file": ""}) / "../file/regpush")
    assert blocked.read() == set(APP)
    assert blocked.read() == set(APP)


def test_the_oldest_rows_go(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regpush.sources.stats._KEEP", 5)
    for number in range(4):
        machine.push(root_dir=f"/{number}")
    with sqlite3.connect(machine.cache / "stats-1.sqlite") as database:
        assert database.execute("SELECT count(*) FROM items").fetchone() == (5,)
    database.close()
    assert machine.read(root_dir="/3") == set()


def test_a_store_s_items_are_nobody_s_business_here(machine: Machine) -> None:
    closure = machine.push()[0]
    plain = Closure.build(closure.roots, tuple(replace(item, stamp=None) for item in closure.items))
    remember(
        plain, Stats(str(machine.cache / "other")), read_ns=changed_ns(machine.root) + LATER_NS
    )
    assert not (machine.cache / "other").exists()
