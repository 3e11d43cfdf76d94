"""Patterns of `.regpushignore` mean what they mean to git: its manual, and git itself beside us."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest

from regpush.concurrency import Cancellation
from regpush.errors import CancelledError
from regpush.files.gitignore import Patterns, Trail, parse
from tests.patience import HANG_S
from tests.registry.parts import real_part
from tests.steps import steps

Tree: TypeAlias = "Mapping[bytes, Tree | None]"
"""Folders and, with None, files by name."""

FEW, MANY = 300, 24_000
PER_TREE = 20

_NAMES = (
    b"a", b"b", b"ab", b"foo", b".a", b"a.b", b"b ", b"#a", b"!b", b"[a]", b"a*", b"\\a", b"-",
    b"]", b"\xff\xfe", b"\xc3\xa9", b"A", b"\t", b"a\rb", b"*", b"**", b"?", b"a-b", b"^", b"1",
)  # fmt: skip
_PIECES = (
    b"a", b"b", b"ab", b"foo", b"*", b"**", b"***", b"?", b"/", b"/", b"**/", b"/**", b"[ab]",
    b"[!a]", b"[^a-b]", b"[a-]", b"[]a]", b"[[:alpha:]]", b"[[:punct:]]", b"[[:space:]]",
    b"[[:bad:]]", b"[[:]", b"[[:]]", b"\\", b"\\/", b"\\*", b"\\a", b" ", b"\\ ", b"[", b"]",
    b"!", b"#", b"-", b".", b"\xff", b"\xc3\xa9", b"\t", b"\r", b"A", b"[\\]]", b"[a\\-b]",
    b"[*-[]", b"[--0]", b"[[-a]", b"[a-b-c]", b"[a/]", b"[!/]", b"*/", b"/*", b"\0",
)  # fmt: skip
_SEGMENTS = (*_NAMES[:8], b"*", b"**", b"**", b"?", b"*a", b"a*", b"[ab]*")


class Git:
    """A repository of the real git in an empty environment, at `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._exclude = root / ".git/info/exclude"
        self._run("init", "-q")

    def ignored(self, patterns: bytes, paths: list[bytes]) -> dict[bytes, bool]:
        """Which of `paths` git leaves out by `patterns`, itself or with a folder above it."""
        self._exclude.write_bytes(patterns)
        # A path that begins with a colon would be a pathspec's magic.
        listed = b"".join(b"./" + path + b"\0" for path in paths)
        said = self._run("check-ignore", "--no-index", "-z", "-v", "-n", "--stdin", given=listed)
        fields = said.split(b"\0")
        rows = zip(fields[0:-1:4], fields[2:-1:4], fields[3:-1:4], strict=True)
        return {path[2:]: bool(file) and not found.startswith(b"!") for file, found, path in rows}

    def others(self, patterns: bytes) -> set[bytes]:
        """The files that `git ls-files` lists as not left out by `patterns`."""
        self._exclude.write_bytes(patterns)
        return set(
            self._run("ls-files", "-o", "-z", f"--exclude-from={self._exclude}").split(b"\0")
        )

    def _run(self, *words: str, given: bytes = b"") -> bytes:
        environment = {
            "PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1",
        }  # fmt: skip
        done = subprocess.run(
            [real_part("git"), "-C", self.root, *words],
            env=environment, input=given, capture_output=True, timeout=HANG_S,
        )  # fmt: skip
        assert done.returncode in (0, 1), done.stderr
        return done.stdout


def left_out(patterns: Patterns, paths: list[tuple[bytes, bool]]) -> dict[bytes, bool]:
    """What a walk leaves out of `paths`, which are in the order of one; True marks a folder."""
    trail, found = Trail(patterns), dict[bytes, bool]()
    for path, is_folder in paths:
        above, _, name = path.rpartition(b"/")
        if found.get(above):
            found[path] = True
            continue
        state = patterns.below(trail.state(above), name)
        decide = patterns.match_folder if is_folder else patterns.match_file
        found[path] = decide(state)
    return found


def make(root: bytes, tree: Tree, at: bytes = b"") -> Iterator[tuple[bytes, bool]]:
    """Write `tree` below `root`; its paths in the order of a walk, and whether each is a folder."""
    for name, below in tree.items():
        path = at + b"/" + name if at else name
        yield path, below is not None
        if below is None:
            with open(root + b"/" + path, "wb"):
                pass
        else:
            os.mkdir(root + b"/" + path)
            yield from make(root, below, path)


def a_tree(chance: random.Random, depth: int = 3) -> Tree:
    names = chance.sample(_NAMES, chance.randint(1, 6))
    return {
        name: a_tree(chance, depth - 1) if depth and chance.random() < 0.5 else None
        for name in names
    }


def a_pattern(chance: random.Random) -> bytes:
    if chance.random() < 0.35:
        text = b"/".join(chance.choices(_SEGMENTS, k=chance.randint(1, 4)))
        text = chance.choice((b"", b"", b"/")) + text + chance.choice((b"", b"", b"", b"/"))
    else:
        text = b"".join(chance.choices(_PIECES, k=chance.randint(1, 7)))
    ending = chance.choice((b" ", b"  ", b"\\ ", b"\r")) if chance.random() < 0.05 else b""
    return (b"!" if chance.random() < 0.3 else b"") + text + ending


def some_patterns(chance: random.Random) -> bytes:
    lines = [a_pattern(chance) for _ in range(chance.randint(1, 8))]
    if chance.random() < 0.1:
        lines = [b"*", b"!*/", *lines]
    return b"\n".join(lines) + chance.choice((b"", b"\n"))


def compare(folder: Path, sets: int, seed: int) -> int:
    """Ask git and ourselves about `sets` random pattern sets; how many paths were left out."""
    chance, out = random.Random(seed), 0
    for number in range(sets // PER_TREE):
        root = folder / str(number)
        root.mkdir()
        git = Git(root)
        paths = list(make(os.fsencode(root), a_tree(chance)))
        for _ in range(PER_TREE):
            data = some_patterns(chance)
            if is_mended(git) and b"**/" in data.replace(b"/**/", b"").replace(b"\n**/", b""):
                continue
            patterns = parse(data)
            ours = left_out(patterns, paths)
            theirs = git.ignored(data, [path for path, _ in paths])
            assert ours == theirs, (data, {p for p in ours if ours[p] != theirs[p]})
            kept = {path for path, is_folder in paths if not is_folder and not ours[path]}
            assert git.others(data) - {b""} == kept, data
            assert all(
                patterns.match(path) is ours[path] for path, is_folder in paths if not is_folder
            )
            out += sum(ours.values())
    return out


def is_mended(git: Git) -> bool:
    """Whether this git takes the stars of `foo**/bar` for ordinary ones, as from 2.52 on."""
    return not git.ignored(b"foo**/bar", [b"foobar"])[b"foobar"]


def test_random_patterns_and_trees(tmp_path: Path) -> None:
    assert compare(tmp_path, FEW, seed=1) > FEW


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 6))
def test_many_random_patterns_and_trees(tmp_path: Path, seed: int) -> None:
    assert compare(tmp_path, MANY // 4, seed) > MANY // 4


def test_every_byte_in_every_class(tmp_path: Path) -> None:
    git = Git(tmp_path)
    names = [bytes([byte]) for byte in range(1, 256) if bytes([byte]) not in b"/."]
    paths = list(make(os.fsencode(tmp_path), dict.fromkeys(names)))
    words = "alnum alpha blank cntrl digit graph lower print punct space upper xdigit word"
    for word in words.encode().split():
        for data in (b"[[:%b:]]" % word, b"[![:%b:]]" % word, b"[[:%b:]-a]" % word):
            assert left_out(parse(data), paths) == git.ignored(data, names), data


# gitignore(5) of git 2.39: the pattern format, and the examples. A path with a slash at its end
# is a folder; all are left out that are in the second list, with what is in them, and no others.
MANUAL = {
    "a blank line": ("\n\n", [], ["a"]),
    "a comment": ("#a\n", [], ["#a"]),
    "a quoted hash": ("\\#a\n", ["#a"], ["a"]),
    "trailing spaces": ("a  \nb\\ \n", ["a", "b "], ["a  ", "b"]),
    "negation": ("*.c\n!b.c\n", ["a.c"], ["b.c"]),
    "a parent that is excluded": ("/d\n!/d/a\n", ["d/", "d/a"], []),
    "a quoted mark": ("\\!important!.txt\n", ["!important!.txt"], ["important!.txt"]),
    "a separator in the middle": (
        "doc/frotz/\n", ["doc/frotz/", "doc/frotz/x"], ["doc/", "a/", "a/doc/", "a/doc/frotz/"]
    ),
    "a separator at the end": ("frotz/\n", ["frotz/", "a/frotz/"], ["a/", "b/", "b/frotz"]),
    "wildcards": ("f?o*[a-c]\n", ["foob", "d/f.oxa"], ["d/", "fob", "food"]),
    "leading stars": ("**/foo\n", ["foo", "a/foo", "a/b/foo"], ["a/", "a/b/", "a/foot"]),
    "leading stars, two names": ("**/foo/bar\n", ["a/foo/bar"], ["a/", "a/foo/", "a/bar"]),
    "trailing stars": ("abc/**\n", ["abc/a", "abc/d/", "abc/d/b"], ["abc/", "x/", "x/abc/",
                                                                    "x/abc/a"]),
    "stars in the middle": (
        "a/**/b\n", ["a/b", "a/x/b", "a/x/y/b"], ["a/", "a/x/", "a/x/y/", "a/x/y/c", "b"]
    ),
    "other stars": ("a**b\n", ["ab", "axxb", "d/ab"], ["d/", "a/", "a/xb"]),
    "hello.*": ("/hello.*\n", ["hello.txt", "hello.c"], ["a/", "a/hello.java"]),
    "foo/": ("foo/\n", ["foo/", "foo/a"], ["a/", "a/b/", "a/b/foo"]),
    "doc/frotz": ("doc/frotz\n", ["doc/frotz"], ["doc/", "a/", "a/doc/", "a/doc/frotz"]),
    "foo/*": ("foo/*\n!foo/bar\n", ["foo/test.json"], ["foo/", "foo/bar/", "foo/bar/hello.c"]),
    "objects": ("*.[oa]\n", ["file.o", "lib.a", "src/internal.o"], ["src/", "file.c"]),
    "vmlinux": ("vmlinux*\n", ["arch/vmlinux.lds.S"], ["arch/"]),
    "all but foo/bar": (
        "/*\n!/foo\n/foo/*\n!/foo/bar\n", ["a", "foo/a", "b/", "b/foo"],
        ["foo/", "foo/bar/", "foo/bar/x"],
    ),
    # The issue's own: an allow-list, and a folder that is excluded in one that comes back.
    "an allow-list": (
        "*\n!*/\n!*.csv\n", ["top.bin", "data/a.bin"], ["top.csv", "data/", "data/a.csv"]
    ),
    "excluded below": (
        "private/\n!services\n", ["services/private/", "services/private/notes"],
        ["services/", "services/main.py"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MANUAL)
def test_the_manual(tmp_path: Path, name: str) -> None:
    patterns, out, kept = MANUAL[name]
    paths = [(path.rstrip("/").encode(), path.endswith("/")) for path in sorted([*out, *kept])]
    found = left_out(parse(patterns.encode()), paths)
    assert {path for path, gone in found.items() if gone} == {p.rstrip("/").encode() for p in out}
    for path, is_folder in paths:
        at = Path(os.fsdecode(bytes(tmp_path) + b"/" + path))
        at.mkdir() if is_folder else at.write_bytes(b"")
    assert Git(tmp_path).ignored(patterns.encode(), [path for path, _ in paths]) == found


def test_lines_as_git_reads_them() -> None:
    patterns = parse(b"\xef\xbb\xbf*.a\r\n  \n\xff\n[\nx\\\n!\n")
    assert patterns.match(b"d/x.a")
    assert patterns.match(b"\xff")
    assert [(one.pattern, one.why) for one in patterns.useless] == [
        (b"[", "its bracket is not closed"),
        (b"x\\", "nothing follows its last backslash"),
        (b"!", "it names nothing"),
    ]


HOSTILE = {
    "stars": (b"a*" * 16 + b"b", b"a" * 120),
    "many stars": (b"*a" * 120 + b"b", b"a" * 255),
    "folders": (b"**/a/" * 60 + b"b", b"/".join([b"a"] * 2000)),
    "stars and folders": (b"**/*a*a*a*b/" * 30 + b"b", b"/".join([b"a" * 200] * 500)),
    "many patterns": (b"\n".join(b"*%d*a" % n for n in range(10_000)), b"a" * 200),
    "many that match": (b"\n".join(b"*" + b"?" * n for n in range(100)) * 20, b"a" * 255),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_patterns_take_linear_time(name: str) -> None:
    """3.5 million lines of Python at most are usual, for two thousand patterns that match."""
    data, path = HOSTILE[name]
    assert steps(lambda: parse(data).match(path)) < 10_000_000


def test_reading_patterns_can_be_stopped() -> None:
    stop = Cancellation()
    stop.cancel()
    with pytest.raises(CancelledError):
        parse(b"a\n", check=stop.check)
