"""Owners and modes by pattern: what a rule matches, reaches, and leaves alone."""

import hashlib
import json
import random
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regpush.closure import Closure, Identity, Item, Role
from regpush.digest import Digest
from regpush.entry import Entry, Kind
from regpush.errors import UsageError
from regpush.ownership import Rule, Rules

STORE = "/gnu/store"
HASH = "0" * 31


def entry(path, kind=Kind.FILE, mode=0o644, **more):
    return Entry(path=path.strip("/").encode(), kind=kind, mode=mode, **more)


def store_item(name, *entries, digit="1"):
    path = f"{STORE}/{digit}{HASH}-{name}"
    inside = [entry(path, Kind.DIRECTORY, 0o755), *(entry(f"{path}/{one}") for one in entries)]
    return Item(
        path=path,
        name=name,
        origin=name,
        identity=Identity.nar(Digest.of(name.encode())),
        size=1,
        entries=lambda: iter(inside),
    )


def store(*items):
    return Closure.build((items[0].path,), items)


def directory(*paths, root="/app"):
    inside = [entry(root, Kind.DIRECTORY, 0o755), *(entry(f"{root}/{one}") for one in paths)]
    own = Item(
        path=root,
        name="app",
        origin="app",
        identity=None,
        size=1,
        role=Role.OWN,
        entries=lambda: iter(sorted(inside)),
    )
    return Closure.build((root,), (own,))


def owners(closure):
    return {
        "/" + one.path.decode(): (one.uid, one.gid)
        for item in closure.items
        for one in item.entries()
        if (one.uid, one.gid) != (0, 0)
    }


def modes(closure):
    return {"/" + o.path.decode(): o.mode for item in closure.items for o in item.entries()}


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("/app/data", ["/app/data"]),
        ("/app/data/**", ["/app/data", "/app/data/a", "/app/data/b/c.sh"]),
        ("/app/data/*", ["/app/data/a"]),
        ("/app/**/c.sh", ["/app/data/b/c.sh"]),
        ("/**/*.sh", ["/app/data/b/c.sh", "/app/run.sh"]),
        ("/app/r?n.[a-s]h", ["/app/run.sh"]),
        ("/app/r?n.[!a-r]h", ["/app/run.sh"]),
        ("data/**", ["/app/data", "/app/data/a", "/app/data/b/c.sh"]),
        ("*.sh", ["/app/run.sh"]),
        ("/app", ["/app"]),
        ("", ["/app", "/app/data", "/app/data/a", "/app/data/b/c.sh", "/app/run.sh", "/app/x[1]"]),
        ("/app/x[[]1]", ["/app/x[1]"]),
        ("/App", []),
        ("/ap", []),
        ("/app/data/a/b", []),
        ("/tmp/**", []),
    ],
)
def test_what_a_pattern_matches(pattern, matched):
    closure = directory("data", "data/a", "data/b/c.sh", "run.sh", "x[1]")
    rules = Rules([Rule(pattern, owner=(7, 8))], closure)
    assert owners(rules.apply(closure)) == dict.fromkeys(matched, (7, 8))
    assert bool(rules.unused()) == (not matched)


def test_later_rules_win_and_owners_and_modes_go_apart():
    closure = directory("a", "b")
    said = [
        Rule("**", owner=(1, 1)),
        Rule("a", owner=(2, 3)),
        Rule("*", mode=0o600),
        Rule("b", mode=0o4755),
    ]
    made = Rules(said, closure).apply(closure)
    assert owners(made) == {"/app": (1, 1), "/app/a": (2, 3), "/app/b": (1, 1)}
    assert modes(made) == {"/app": 0o755, "/app/a": 0o600, "/app/b": 0o4755}


def test_a_link_has_no_mode_and_a_second_name_goes_by_the_first():
    closure = directory()
    inside = [
        entry("/app/a"),
        entry("/app/b", Kind.HARDLINK, link=b"app/a"),
        entry("/app/c", Kind.SYMLINK, 0o777, link=b"a"),
    ]
    own = replace(closure.items[0], entries=lambda: iter(inside))
    closure = Closure.build(("/app",), (own,))
    said = [Rule("a", mode=0o600), Rule("[bc]", mode=0o640), Rule("[bc]", owner=(5, 5))]
    made = Rules(said, closure).apply(closure)
    assert modes(made) == {"/app/a": 0o600, "/app/b": 0o600, "/app/c": 0o777}
    assert owners(made) == {"/app/c": (5, 5)}


def test_only_what_a_rule_can_reach_is_another_item():
    app, lib = store_item("app-1", "etc/x", "bin/run"), store_item("lib-2", "lib/y", digit="2")
    closure = store(app, lib)
    for pattern, touched in (
        ("etc/x", [app]),
        (f"{STORE}/*-app-*/etc/**", [app]),
        (f"{STORE}/2*/**", [lib]),
        ("/**/x", [app, lib]),
        ("/gnu", [app, lib]),
        ("/gnu/store/**", [app, lib]),
        ("", [app, lib]),
        ("/etc/x", []),
        (f"{STORE}", [app, lib]),
        (f"{STORE}/*/*/z", [app, lib]),
    ):
        made = Rules([Rule(pattern, owner=(7, 8))], closure).apply(closure)
        changed = [old for old, new in zip(closure.items, made.items, strict=True) if old != new]
        assert changed == sorted(touched, key=lambda one: one.path), pattern
        assert all(one.in_store for one in made.items)


def test_golden_identity():
    """It stands in recipes of images that exist."""
    app = store_item("app-1", "x")
    closure = store(app, store_item("lib-2", digit="2"))
    said = [Rule("x", owner=(7, 8)), Rule("/etc", mode=0o700), Rule("x", mode=0o444)]
    made = Rules(said, closure).apply(closure)[app.path]
    # As `printf '%s' '[…]' | sha256sum` has it.
    text = (
        f'["nar:sha256:{hashlib.sha256(b"app-1").hexdigest()}",'
        f'"--chown {app.path}/x=7:8","--chmod {app.path}/x=0444"]'
    )
    assert str(made.identity) == f"nar-ruled:sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    assert json.loads(text)


def test_directories_above_items():
    app = store_item("app-1")
    closure = store(app)
    rules = Rules([Rule("/gnu", owner=(1, 1)), Rule("/gnu/store", mode=0o1775)], closure)
    (made,) = rules.apply(closure).items
    assert [(one.path, one.mode, one.uid) for one in made.parents] == [
        (b"gnu", 0o755, 1),
        (b"gnu/store", 0o1775, 0),
    ]


def test_what_matched_nothing_is_known_once_all_was_read():
    app, lib = store_item("app-1", "etc/x"), store_item("lib-2", digit="2")
    closure = store(app, lib)
    said = [Rule("/etc/x", mode=0o700), Rule("/**/no", mode=0o700), Rule("etc/x", mode=0o700)]
    rules = Rules(said, closure)
    one, two = rules.apply(closure).items
    assert rules.unused() == ["--chmod /etc/x=0700"]
    next(one.entries())
    list(two.entries())
    assert rules.unused() == ["--chmod /etc/x=0700"]
    list(one.entries())
    assert rules.unused() == ["--chmod /etc/x=0700", "--chmod /**/no=0700"]


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("chown", ""),
        ("chown", "/app"),
        ("chown", "=1:1"),
        ("chown", "/app=root"),
        ("chown", "/app=1:"),
        ("chown", "/app=4294967295:0"),
        ("chown", "/app=1:1:1"),
        ("chown", "/app/=1:1"),
        ("chown", "/app/../x=1:1"),
        ("chown", "//app=1:1"),
        ("chown", "./x=1:1"),
        ("chown", "/=1:1"),
        ("chmod", "0755"),
        ("chmod", "=0755"),
        ("chmod", "/app=u+x"),
        ("chmod", "/app=888"),
        ("chmod", "/app=77"),
        ("chmod", "/app=17777"),
    ],
)
def test_bad_rules(flag, text):
    with pytest.raises(UsageError, match=f"bad --{flag} '{re.escape(text)}'"):
        getattr(Rule, flag)(text)


def test_rules_as_they_are_written():
    assert Rule.chown("/a=b/**=1000:50") == Rule("/a=b/**", owner=(1000, 50))
    assert Rule.chown("1000") == Rule("", owner=(1000, 1000))
    assert Rule.chown("4294967294:0").owner == (4294967294, 0)
    assert Rule.chmod("bin/*=755") == Rule("bin/*", mode=0o755)
    assert Rule.chmod("/x=01777").mode == 0o1777


NAMES = st.sampled_from(["a", "b", "ab", "*", "a*", "**", "?"])


@given(st.lists(NAMES, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_a_rule_reaches_every_item_that_it_matches_in(names, chance: random.Random):
    """And matches as a plain regular expression would."""
    closure = directory()
    rules = Rules([Rule("/" + "/".join(names), owner=(7, 7))], closure)
    told = "".join(
        r"(?:/[^/]+)*" if name == "**" else "/" + name.replace("*", "[^/]*").replace("?", "[^/]")
        for name in names
    )
    for _ in range(20):
        path = [chance.choice(["a", "b", "ab"]) for _ in range(chance.randint(1, 5))]
        text = "/" + "/".join(path)
        matched = rules.adjust(entry(text)).uid == 7
        assert matched == bool(re.fullmatch(told, text)), text
        if matched:
            root = "/" + "/".join(path[: chance.randint(1, len(path))])
            assert rules._rules[0].reaches(root), (root, text)
