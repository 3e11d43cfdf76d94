"""Which item made which others change, by closures worked by hand."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from regpush.closure import Closure, Identity, Item, Role
from regpush.digest import OCI_LAYER_GZIP, Descriptor, Digest
from regpush.history.causes import Cause, causes
from regpush.history.comparison import of_images
from regpush.image.image import Image, Layer, build
from regpush.options import ImageOptions
from regpush.pack.recipe import recipe
from regpush.pack.tar import ArchiveOptions
from regpush.platform import Platform
from tests.layering.graphs import graph, item
from tests.layering.pushes import with_new_versions
from tests.steps import steps

ARCHIVE = ArchiveOptions()
SSL = "openssl 3.0.15 -> 3.0.16 changed"


def image(*groups, size=1000) -> Image:
    """The image of these groups of items, whose blobs are made up from what is in them."""
    layers = []
    for group in groups:
        said = " ".join(f"{one.path} {one.identity}" for one in group).encode()
        layers.append(
            Layer(
                descriptor=Descriptor(media_type=OCI_LAYER_GZIP, digest=Digest.of(said), size=size),
                diff_id=Digest.of(said),
                items=tuple(one.path for one in group),
                recipe=recipe(((one.path, one.identity) for one in group), ARCHIVE),
            )
        )
    made = build(layers, ImageOptions(), Platform("linux", "amd64"), recipe_version=1)
    return Image.parse(_annotated(made, layers), made.config)


def _annotated(made: Image, layers) -> bytes:
    manifest = json.loads(made.manifest)
    for value, layer in zip(manifest["layers"], layers, strict=True):
        value["annotations"] = {"dev.regpush.recipe": str(layer.recipe)}
    return json.dumps(manifest).encode()


def versioned(closure: Closure, versions: dict[str, str]) -> Closure:
    """Names with versions in the paths: `openssl` at `…-openssl-3.0.15`, in digits of a store."""

    def path(one: Item) -> str:
        digits, _, name = one.path.rpartition("/")[2].partition("-")
        version = f"-{versions[one.name]}" if one.name in versions else ""
        return f"/gnu/store/{digits.replace('e', 'x')}-{name}{version}"

    paths = {one.path: path(one) for one in closure.items}
    items = tuple(
        dataclasses.replace(
            one,
            path=paths[one.path],
            references=tuple(paths[path] for path in one.references),
            identity=Identity.nar(Digest.of(paths[one.path].encode())),
        )
        for one in closure.items
    )
    return Closure.build(tuple(paths[root] for root in closure.roots), items)


#   app ─┬─ server ─┬─ openssl ── libc
#        │          └─ zlib ───── libc
#        └─ script
STORE = "app: server script\nserver: openssl zlib\nopenssl: libc\nzlib: libc"


def before_and_after():
    closure = graph(STORE, roots="app")
    old = versioned(closure, {"openssl": "3.0.15", "zlib": "1.3"})
    newer = with_new_versions(closure, ["openssl"], "2")
    return old, versioned(newer, {"openssl": "3.0.16", "zlib": "1.3"})


def test_the_cause_is_what_nothing_below_changed_for():
    old, new = before_and_after()
    found = causes(new, [image(*([one] for one in old.items))], ARCHIVE)
    by_name = {new[path].name: cause for path, cause in found.of.items()}
    assert sorted(by_name) == ["app", "openssl", "server"]
    assert len(set(map(id, by_name.values()))) == 1
    assert str(by_name["app"]) == "openssl 3.0.15 -> 3.0.16 changed; 2 items depend on it"
    app = next(one for one in new.items if one.name == "app")
    zlib = next(one for one in new.items if one.name == "zlib")
    assert found.why([app, zlib]) == str(by_name["openssl"])
    assert found.why([zlib]) == "regrouped: none of its items changed"


def test_several_causes_the_gravest_first():
    closure = graph("app: a b c\nb: low\nc: low", roots="app")
    newer = with_new_versions(closure, ["a", "low"], "2")
    old, new = versioned(closure, {}), versioned(newer, {})
    text = causes(new, [image(old.items)], ARCHIVE).why(new.items)
    assert text == "low changed; 3 items depend on it (and 1 more)"


@pytest.mark.parametrize(
    ("path", "before", "dependents", "said"),
    [
        ("openssl-3.0.16", "openssl-3.0.15", 44, f"{SSL}; 44 items depend on it"),
        ("openssl-3.0.16", "openssl-3.0.15", 1, f"{SSL}; 1 item depends on it"),
        ("openssl-3.0.16", "openssl-3.0.16", 0, "openssl changed"),
        ("openssl-3.0.16", "openssl", 0, "openssl changed"),
        ("openssl-3.0.16", None, 2, "openssl-3.0.16 is new; 2 items depend on it"),
        ("openssl", "openssl", 0, "openssl changed"),
    ],
)  # fmt: skip
def test_what_is_said(path, before, dependents, said):
    one = dataclasses.replace(item("openssl"), path=f"/gnu/store/{'a' * 32}-{path}")
    assert str(Cause(item=one, before=before, dependents=dependents)) == said


def directory(*versions: str) -> Closure:
    """An app of a directory with libraries, each of some version."""
    items = [
        dataclasses.replace(
            item(name, role=role, size=100),
            path=f"/app/{name}",
            identity=Identity.tree(Digest.of(f"{name} {version}".encode())),
        )
        for name, role, version in zip(
            ("lib", "tool", "main"),
            (Role.ORDINARY, Role.ORDINARY, Role.OWN),
            versions,
            strict=True,
        )
    ]
    return Closure.build(("/app/main",), tuple(items))


def test_of_a_directory_only_recipes_tell():
    old, new = directory("1", "1", "1"), directory("2", "1", "1")
    lib, main, tool = old.items
    alone = causes(new, [image([lib], [tool], [main])], ARCHIVE)
    assert sorted(alone.of) == ["/app/lib"]
    assert alone.why(new.items) == "lib changed"
    together = causes(new, [image([lib, tool], [main])], ARCHIVE)
    assert sorted(together.of) == ["/app/lib", "/app/tool"]


def ruled(closure: Closure, rule: str) -> Closure:
    """`closure` with another owner for all its items."""
    items = tuple(
        dataclasses.replace(one, identity=one.identity.ruled([rule])) for one in closure.items
    )
    return dataclasses.replace(closure, items=items)


def test_of_ruled_items_of_a_store_only_what_changed_is_a_cause():
    old, new = (ruled(one, "/**=1:1") for one in before_and_after())
    found = causes(new, [image(*([one] for one in old.items))], ARCHIVE)
    assert found.why(new.items) == "openssl 3.0.15 -> 3.0.16 changed; 2 items depend on it"
    unlike = causes(new, [image(old.items)], ARCHIVE)
    assert unlike.of == found.of
    alone = causes(old, [image(old.items)], ARCHIVE)
    assert not alone.of


def test_other_owners_are_a_cause():
    plain, _ = before_and_after()
    one, two = ruled(plain, "/**=1:1"), ruled(plain, "/**=2:2")
    for before, after in ((plain, one), (one, two), (two, plain)):
        found = causes(after, [image(*([each] for each in before.items))], ARCHIVE)
        assert sorted(found.of) == sorted(item.path for item in after.items)
        openssl = next(each for each in after.items if each.name == "openssl")
        assert found.why([openssl]) == "libc has other owners or modes; 4 items depend on it"


def test_ten_thousand_items_are_explained_in_few_lines_each():
    """Five hundred lines of Python for each item; 180 are usual."""
    libs = [f"lib{number}" for number in range(2000)]
    middle = [f"mid{number}: {' '.join(libs[number % 900 :][:9])}" for number in range(8000)]
    closure = graph("\n".join(middle), roots="mid0")
    old = image(closure.items)
    newer = with_new_versions(closure, libs, "2")
    assert len(causes(newer, [old], ARCHIVE).of) == len(newer.items)
    assert steps(lambda: causes(newer, [old], ARCHIVE)) < 500 * len(newer.items)


def test_two_images_tell_versions_and_what_was_only_built_anew():
    old, new = before_and_after()

    def by_name(closure, *groups):
        return [[one for one in closure.items if one.name in names.split()] for names in groups]

    groups = ["libc", "openssl zlib", "server script", "app"]
    found = of_images(image(*by_name(old, *groups)), image(*by_name(new, *groups)))
    assert found.reused == 1
    told = [(layer.number, layer.causes, layer.changed, layer.unchanged) for layer in found.layers]
    anew = ("rebuilt, of the same version",)
    assert told == [
        (2, ("openssl 3.0.15 -> 3.0.16 changed",), 1, 1),
        (3, anew, 1, 1),
        (4, anew, 1, 0),
    ]
    assert found.by_cause() == [(anew[0], 2000, 2), ("openssl 3.0.15 -> 3.0.16 changed", 1000, 1)]
    assert found.to_json()["causes"][0] == {"cause": anew[0], "size": 2000, "layers": 2}


def test_two_images_grouped_otherwise():
    closure = versioned(graph(STORE, roots="app"), {})
    one, two = image(closure.items), image(*([each] for each in closure.items))
    causes_of = {layer.causes for layer in of_images(one, two).layers}
    assert causes_of == {("regrouped: none of its items changed",)}


def test_an_image_of_another_tool_says_nothing():
    closure = graph(STORE, roots="app")
    new = image(closure.items)
    silent = build(
        [replace(new.layers[0], items=(), recipe=None)],
        ImageOptions(),
        Platform("linux", "amd64"),
        recipe_version=1,
    )
    (layer,) = of_images(image([closure.items[0]]), silent).layers
    assert layer.causes == ("unknown: regpush did not push this image",)


_PATHS = st.sampled_from(
    [
        *(f"/gnu/store/{letter * 32}-openssl-3.0.{letter}" for letter in "123"),
        *(f"/nix/store/{letter * 32}-tzdata" for letter in "45"),
        "/app", "/app/node_modules/left-pad", "/app/node_modules/left-pad@1.0", "(links)", "",
    ]
)  # fmt: skip
_LAYERS = st.lists(
    st.tuples(st.lists(_PATHS, max_size=4), st.integers(0, 1 << 40), st.integers(0, 3)), max_size=6
)


def _drawn(layers) -> Image:
    """An image of (paths, size, salt of the contents), lowest layer first."""
    made = [
        Layer(
            descriptor=Descriptor(
                media_type=OCI_LAYER_GZIP, digest=Digest.of(repr(one).encode()), size=one[1]
            ),
            diff_id=Digest.of(repr((one[0], one[2])).encode()),
            items=tuple(one[0]),
        )
        for one in layers
    ]
    return build(made, ImageOptions(), Platform("linux", "amd64"), recipe_version=1)


@given(_LAYERS, _LAYERS, st.integers(0, 6))
@settings(deadline=None)
def test_counts_of_a_comparison_add_up(old, new, base):
    before, after = _drawn(old), _drawn(new)
    after = replace(after, base_layers=min(base, len(after.layers)))
    compared = of_images(before, after)
    there = {layer.diff_id for layer in before.layers}
    sent = [layer.descriptor.size for layer in after.layers if layer.diff_id not in there]
    assert compared.reused == len(after.layers) - len(sent) >= 0
    assert [one.size for one in compared.layers] == sent
    for one in compared.layers:
        whole = len(after.layers[one.number - 1].contents)
        expected = 0 if one.number <= after.base_layers else whole
        assert one.changed + one.unchanged == expected
        assert min(one.changed, one.unchanged) >= 0
        assert one.causes
    told = compared.to_json()["causes"]
    assert sum(row["size"] for row in told) == sum(sent)
    assert sum(row["layers"] for row in told) == len(sent)
    assert all(row["size"] >= 0 and row["layers"] > 0 for row in told)
