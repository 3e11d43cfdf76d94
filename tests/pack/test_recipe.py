"""Recipes, candidates, and where a layer is taken from: the pure half of reuse."""

import sqlite3
from dataclasses import dataclass, field, replace

import pytest

from regpush.closure import Identity, Item
from regpush.digest import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor, Digest
from regpush.entry import Profile
from regpush.events import Action
from regpush.history.cache import LayerIndex
from regpush.history.previous import nearest
from regpush.image.image import Layer, build
from regpush.options import Algorithm, Compression, ImageOptions
from regpush.pack.recipe import (
    Candidate,
    PreviousImage,
    annotate,
    by_diff_id,
    by_recipe,
    lacks_recipes,
    place,
    recipe,
)
from regpush.pack.tar import ArchiveOptions, Parents
from regpush.platform import Platform
from regpush.reference import RepositoryName

STORE = ArchiveOptions()


def item(path, text="x"):
    return Item(
        path=path,
        name="n",
        origin="n",
        identity=Identity.nar(Digest.of(text.encode())),
        size=1,
        entries=lambda: iter(()),
    )


def pairs(*items):
    return [(one.path, one.identity) for one in items]


def test_a_recipe_says_what_is_in_the_layer_and_nothing_else():
    one = recipe(pairs(item("/a"), item("/b")), STORE)
    assert one == recipe(pairs(item("/b"), item("/a")), STORE)
    assert one == recipe(pairs(replace(item("/a"), size=9, name="other"), item("/b")), STORE)
    others = [
        recipe(pairs(item("/a")), STORE),
        recipe(pairs(item("/a", "y"), item("/b")), STORE),
        recipe(pairs(item("/a"), item("/c")), STORE),
        recipe(pairs(item("/a"), item("/b")), ArchiveOptions(profile=Profile.TREE)),
        recipe(pairs(item("/a"), item("/b")), ArchiveOptions(parents=Parents.OMITTED)),
    ]
    assert len({one, *others}) == 6


def test_golden_recipe():
    """Recipes stand in images that exist: they may only change with RECIPE_VERSION."""
    # printf '%s' '{"archive":…}' | sha256sum over the canonical JSON written out by hand.
    text = (
        '{"archive":{"parents":"written","profile":"store"},"items":[["/a","nar:sha256:'
        '2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"]],"version":1}'
    )
    assert recipe(pairs(item("/a")), STORE) == Digest.of(text.encode())


def layer(text, media_type=OCI_LAYER_GZIP, **more):
    return Layer(
        descriptor=Descriptor.of(text.encode(), media_type),
        diff_id=Digest.of(b"tar" + text.encode()),
        **more,
    )


named = RepositoryName.parse


def image(name, *layers, version=1):
    built = build(layers, ImageOptions(), Platform("linux", "amd64"), recipe_version=version)
    return PreviousImage(name=name, repository=named(name.rpartition(":")[0]), image=built)


def test_candidates_by_recipe_and_compression():
    wanted = recipe(pairs(item("/a")), STORE)
    gzip = annotate(layer("gz"), [item("/a")], wanted, 5)
    zstd = annotate(layer("zs", OCI_LAYER_ZSTD), [item("/a")], wanted, 5)
    previous = [image("h/a:1", layer("foreign"), zstd), image("h/a:2", gzip)]

    def found(compression):
        return [c.layer.descriptor.media_type for c in by_recipe(wanted, previous, compression)]

    assert found(None) == [OCI_LAYER_ZSTD, OCI_LAYER_GZIP]
    assert found(Compression(Algorithm.GZIP, 1)) == [OCI_LAYER_GZIP]
    assert found(Compression(Algorithm.NONE, 0)) == []
    assert by_diff_id(gzip.diff_id, previous, None)[0].source == "h/a:2"


def test_a_layer_that_is_no_image_layer_is_never_reused():
    odd = annotate(layer("x", "application/x-encrypted"), [item("/a")], Digest.of(b"r"), 5)
    assert by_recipe(Digest.of(b"r"), [image("h/a:1", odd)], None) == []


def test_images_whose_recipes_are_not_ours():
    assert not lacks_recipes([])
    assert not lacks_recipes([image("h/a:1", layer("x"))])
    assert lacks_recipes([image("h/a:1", layer("x"), version=2)])


@dataclass
class Blobs:
    """A store of blobs in memory, with a log of what it was asked."""

    name: str
    here: set
    mountable: set = field(default_factory=set)
    log: list = field(default_factory=list)

    def has_blob(self, descriptor):
        self.log.append(("head", descriptor))
        return descriptor in self.here

    def mount_blob(self, descriptor, source):
        self.log.append(("mount", source))
        return (descriptor, source) in self.mountable


def test_a_layer_is_looked_for_here_then_mounted_then_given_up():
    one, two = layer("one"), layer("two")
    candidates = [
        Candidate(layer=one, repository=named("h/other/b"), source="h/other/b:1"),
        Candidate(layer=two, repository=named("elsewhere/b"), source="elsewhere/b:1"),
        Candidate(layer=one, repository=named("h/a"), source="h/a:1"),
    ]
    here = place(candidates, [Blobs(named("h/a"), {two.descriptor})])
    assert (here.action, here.layer) == (Action.REUSED, two)
    blobs = Blobs(named("h/a"), set(), {(one.descriptor, "other/b")})
    mounted = place(candidates, [blobs])
    assert (mounted.action, mounted.layer) == (Action.MOUNTED, one)
    assert [what for what, _ in blobs.log] == ["head", "head", "mount"]
    nothing = Blobs(named("h/a"), set())
    assert place(candidates, [nothing]) is None
    assert ("mount", "b") not in nothing.log


@pytest.mark.parametrize(
    ("listed", "tags", "first"),
    [
        (["1.9", "1.10", "1.2"], ["2.0"], "1.10"),
        (["main-1", "dev-7", "main-3"], ["main-4"], "main-3"),
        (["sha256-" + "a" * 64, "x"], ["y"], "x"),
        (["20260101", "20260301", "20251231"], ["20260302"], "20260301"),
    ],
)
def test_the_tags_most_likely_to_be_recent(listed, tags, first):
    assert nearest(listed, tags)[0] == first
    assert len(nearest([str(n) for n in range(100)], tags)) == 8


def test_the_index_remembers_by_repository(tmp_path):
    wanted = Digest.of(b"recipe")
    here, there = (layer(text, recipe=wanted) for text in ("here", "there"))
    with LayerIndex(str(tmp_path)) as index:
        index.remember([there], named("h/b"))
        index.remember([here], named("h/a"))
        index.remember([layer("foreign")], named("h/a"))
    with LayerIndex(str(tmp_path)) as index:
        found = index.recall(wanted, named("h/b"), None)
        assert [c.repository for c in found] == [named("h/b"), named("h/a")]
        assert found[0].layer.descriptor == there.descriptor
        assert found[0].layer.diff_id == there.diff_id
        assert index.recall(wanted, named("h/b"), Compression(Algorithm.ZSTD, 3)) == []
        assert index.recall(Digest.of(b"other"), named("h/b"), None) == []


def test_an_index_that_cannot_be_is_empty(tmp_path):
    wanted = Digest.of(b"recipe")
    (tmp_path / "file").write_text("")
    (tmp_path / "index-1.sqlite").write_bytes(b"not a database" * 100)
    for place_ in (None, str(tmp_path / "file" / "x"), str(tmp_path)):
        with LayerIndex(place_) as index:
            index.remember([layer("a", recipe=wanted, media_type=OCI_LAYER)], named("h/a"))
            assert index.recall(wanted, named("h/a"), None) == []


def test_a_damaged_row_is_a_miss(tmp_path):
    wanted = Digest.of(b"recipe")
    with LayerIndex(str(tmp_path)) as index:
        index.remember([layer("a", recipe=wanted)], named("h/a"))
    database = sqlite3.connect(tmp_path / "index-1.sqlite")
    with database:
        database.execute("UPDATE layers SET digest = '../../etc/passwd'")
    database.close()
    with LayerIndex(str(tmp_path)) as index:
        assert index.recall(wanted, named("h/a"), None) == []
