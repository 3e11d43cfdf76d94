"""`regpush inspect`: several images, items by size, and the page with the picture."""

import gzip
import hashlib
import io
import json
import math
import os
import re
import tarfile
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regpush.commands.treemap import Box, squarify
from tests.patience import HANG_S
from tests.program import push, regpush
from tests.registry.api import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, Api


@pytest.fixture
def app(tmp_path):
    root = tmp_path / "app"
    for number, name in enumerate(("left-pad", "right-pad", "is-odd")):
        (root / "node_modules" / name).mkdir(parents=True)
        (root / "node_modules" / name / "index.js").write_bytes(os.urandom(9000 << number))
    (root / "main.js").write_text("run()\n")
    return root


@pytest.fixture
def two(docker_registry, repository, app):
    """Two images that share all but a package and the app's own code."""
    to = f"{docker_registry.host}/{repository}"
    reports = []
    for tag in ("v1", "v2"):
        done = push(app, f"{to}:{tag}", "--layers", "size", "--max-layers", "9").ok()
        reports.append(done.report["images"][0]["layers"])
        (app / "main.js").write_text("run(2)\n")
        (app / "node_modules/is-odd/index.js").write_bytes(os.urandom(50_000))
    return [f"{to}:v1", f"{to}:v2"], reports


def test_layers_are_called_as_the_push_called_them(two):
    references, reports = two
    shown = regpush("inspect", references[0]).ok().stdout.splitlines()
    rows = [row for row in map(str.split, shown) if row and row[0].isdigit()]
    assert len(rows) == len(reports[0])
    for row, layer in zip(rows, reports[0], strict=True):
        assert " ".join(row[1:]).startswith(layer["label"])
    assert any("left-pad" in layer["label"] for layer in reports[0])


def test_what_two_images_share(two):
    references, reports = two
    told = json.loads(regpush("inspect", *references, "--format", "json").ok().stdout)
    sizes = [{layer["digest"]: layer["size"] for layer in layers} for layers in reports]
    both = sizes[0].keys() & sizes[1].keys()
    assert 0 < len(both) < len(sizes[0])
    (pair,) = told["shared"]["pairs"]
    assert pair["images"] == [0, 1]
    assert pair["shared"] == sum(sizes[0][digest] for digest in both)
    only = [sum(s for d, s in one.items() if d not in both) for one in sizes]
    assert pair["only"] == only
    assert told["shared"]["size"] == pair["shared"] + sum(only)
    assert [one["only_here"] for one in told["shared"]["images"]] == only
    assert [one["size"] for one in told["shared"]["images"]] == [sum(s.values()) for s in sizes]
    held = {one["digest"]: one["images"] for one in told["shared"]["layers"]}
    assert held == {
        digest: [n for n in (0, 1) if digest in sizes[n]] for digest in {**sizes[0], **sizes[1]}
    }
    assert [one["digest"] for one in told["images"]] == [
        json.loads(regpush("inspect", one, "--format", "json").ok().stdout)["digest"]
        for one in references
    ]
    shown = regpush("inspect", *references).ok().stdout
    assert "1 and 2" in shown
    assert shown.splitlines()[-1].startswith("All layers, each once: ")
    thrice = json.loads(
        regpush("inspect", *references, references[0], "--format", "json").ok().stdout
    )
    assert [(p["images"], p["only"]) for p in thrice["shared"]["pairs"]][1] == ([0, 2], [0, 0])


def test_items_by_size(two):
    """As the very members of the layers add up, by another reader."""
    references, _ = two
    to = references[0]
    told = json.loads(regpush("inspect", to, "--deep", "--format", "json").ok().stdout)
    host, _, rest = to.partition("/")
    api = Api(host, rest.partition(":")[0])
    for layer in told["layers"]:
        blob = gzip.decompress(api.blob(layer["digest"]).body)
        with tarfile.open(fileobj=io.BytesIO(blob)) as archive:
            members = archive.getmembers()
        assert sum(layer["item_sizes"].values()) <= len(blob)
        for item, size in layer["item_sizes"].items():
            inside = [m for m in members if f"/{m.name}/".startswith(f"{item}/")]
            if item.startswith("/"):
                assert size == sum(512 + -(-m.size // 512) * 512 for m in inside)
        assert set(layer["item_sizes"]) <= set(layer["items"])
        if layer["items"] != ["(links)"]:
            assert layer["item_sizes"]
    shown = regpush("inspect", to, "--deep").ok().stdout
    assert "node_modules/left-pad" in shown


def put_layer(api, tag, *members):
    """An image of another tool: one layer of empty files, no history."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, size in members:
            info = tarfile.TarInfo(name)
            info.size = size
            archive.addfile(info, io.BytesIO(bytes(size)))
    put_archive(api, tag, raw.getvalue())


def put_archive(api, tag, archive):
    """An image whose only layer unpacks to these bytes; gives the digest of the layer."""
    blob = gzip.compress(archive)
    diff_id = f"sha256:{hashlib.sha256(archive).hexdigest()}"
    config = json.dumps(
        {"os": "linux", "architecture": "amd64",
         "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    ).encode()  # fmt: skip
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": api.put_blob(config), "size": len(config)},
        "layers": [
            {"mediaType": LAYER_TYPE, "digest": api.put_blob(blob), "size": len(blob)},
        ],
    }
    assert api.put_manifest(tag, json.dumps(manifest).encode()).status == 201
    return manifest["layers"][0]["digest"]


def extended(records):
    """A pax header of these bytes, and the file that it is for."""
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    return header.tobuf() + records + bytes(-len(records) % 512) + tarfile.TarInfo("x").tobuf()


@pytest.mark.parametrize(
    "archive",
    [
        extended(b"0" * (8 << 20)),
        extended(b"409 size=" + b"9" * 399 + b"\n"),
        extended(b"6 a=b\n")[:1024] * 3000,
        b"no archive at all" * 100,
    ],
    ids=["long", "number", "deep", "none"],
)
def test_a_hostile_layer_is_refused_by_its_digest(docker_registry, repository, archive):
    digest = put_archive(Api(docker_registry.host, repository), "x", archive)
    done = regpush("inspect", "--deep", f"{docker_registry.host}/{repository}:x", timeout=HANG_S)
    done.failed(8, digest)


def test_a_layer_of_many_long_names_takes_bounded_memory(docker_registry, repository):
    """Each name is half a megabyte of folders, in an archive that compresses well."""
    name = b"y/" * 250_000
    records = [b"%d path=%d/%s\n" % (500_017, number, name) for number in range(100, 140)]
    assert all(len(one) == 500_017 for one in records)
    digest = put_archive(
        Api(docker_registry.host, repository), "x", b"".join(map(extended, records)) + bytes(1024)
    )
    to = f"{docker_registry.host}/{repository}:x"
    done = regpush("inspect", "--deep", to, "--format", "json", timeout=HANG_S).ok()
    assert digest in done.stdout
    assert len(regpush("inspect", "--deep", to).ok().stdout) < 10_000


def test_an_image_of_another_tool(docker_registry, repository):
    api = Api(docker_registry.host, repository)
    put_layer(api, "x", ("usr/bin/a", 100), ("usr/bin/b", 600), ("./usr/lib/c", 1), ("top", 1))
    to = f"{docker_registry.host}/{repository}:x"
    (layer,) = json.loads(regpush("inspect", to, "--deep", "--format", "json").ok().stdout)[
        "layers"
    ]
    assert layer["item_sizes"] == {"/usr/bin": 1024 + 1536, "/top": 1024, "/usr/lib": 1024}


def test_a_layer_that_is_no_archive(docker_registry, repository):
    api = Api(docker_registry.host, repository)
    api.put_image("x", b"not gzip")
    to = f"{docker_registry.host}/{repository}:x"
    regpush("inspect", to, "--deep").failed(8)


class Outline(HTMLParser):
    """Fails for what is not closed, and collects what could reach outside."""

    VOID = frozenset({"meta", "br"})

    def __init__(self):
        super().__init__()
        self.open = []
        self.tags = []
        self.attributes = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def outline(page):
    found = Outline()
    found.feed(page)
    found.close()
    assert found.open == []
    return found


def pictures(page):
    """The pictures in the page, as XML."""
    found = re.findall(r"<svg class=.*?\n</svg>", page, re.DOTALL)
    return [ElementTree.fromstring(text) for text in found]


def inside(box, outer):
    return all(
        float(box.get(at)) >= float(outer.get(at)) - 0.2
        and float(box.get(at)) + float(box.get(length))
        <= float(outer.get(at)) + float(outer.get(length)) + 0.2
        for at, length in (("x", "width"), ("y", "height"))
    )


@pytest.mark.parametrize("flags", [[], ["--deep"]])
def test_the_page_of_one_image(two, tmp_path, flags):
    references, reports = two
    path = tmp_path / "page.html"
    regpush("inspect", references[0], "--html", path, *flags).ok()
    page = path.read_text()
    found = outline(page)
    assert "script" not in found.tags
    assert not {"src", "href", "srcset", "data", "onload"} & {name for name, _ in found.attributes}
    assert "url(" not in page
    assert "@import" not in page
    assert "prefers-color-scheme: dark" in page
    wide, narrow = pictures(page)
    for picture, whole in ((wide, 1200 * 640), (narrow, 336 * 560)):
        assert picture.get("aria-label")
        groups = picture.findall("g")
        assert len(groups) == len(reports[0])
        sizes = sorted((layer["size"] for layer in reports[0]), reverse=True)
        for group, size in zip(groups, sizes, strict=True):
            head = group.find("g/rect")
            area = float(head.get("width")) * float(head.get("height"))
            assert area == pytest.approx(whole * size / sum(sizes), rel=0.05, abs=60)
            for cell in group.findall("g"):
                assert cell.find("title").text
                assert inside(cell.find("rect"), head)
    assert ("within a layer, areas of items" in page) is bool(flags)
    assert all(layer["digest"][7:19] in page for layer in reports[0])


def test_the_page_fits_a_phone(two, tmp_path):
    """At 360 pixels letters are as high as they are drawn, and no table is wider than the page."""
    references, _ = two
    path = tmp_path / "page.html"
    regpush("inspect", references[0], "--html", path, "--deep").ok()
    page = path.read_text()
    wide, narrow = pictures(page)
    (style,) = re.findall(r"@media \(max-width: 40rem\) \{\n(.*?)\n\}\n", page, re.DOTALL)
    rules = dict(re.findall(r"(.+?) \{ (.+?) \}", style))
    assert (wide.get("class"), narrow.get("class")) == ("map wide", "map narrow")
    assert rules["  svg.wide, .share, .digest"] == "display: none;"
    assert "svg.narrow { display: none; }" in page
    # One unit is one pixel, or almost: 360 less the padding of the body, .75rem a side.
    left = 360 - 2 * 0.75 * 16
    assert float(narrow.get("viewBox").split()[2]) == left
    # Every cell of a column that is hidden says so, its head too.
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    layers = [row for row in rows if 'class="share"' in row]
    assert len(layers) > 2
    assert all('class="digest"' in row for row in layers)
    assert "min-width: 7rem" in rules["  td.items"]


def test_the_page_of_several(two, tmp_path):
    references, _ = two
    path = tmp_path / "page.html"
    regpush("inspect", *references, "--html", path).ok()
    page = path.read_text()
    outline(page)
    titles = [one.text for picture in pictures(page) for one in picture.findall("g/g/title")]
    assert {"in both", "only in 1", "only in 2"} <= set(titles)
    assert "What 2 images share" in page


def test_names_that_are_markup(docker_registry, repository, tmp_path):
    app = tmp_path / "app"
    name = "<script>alert(1)</script>&\"'"
    (app / "node_modules" / name.replace("/", "!")).mkdir(parents=True)
    (app / "node_modules" / name.replace("/", "!") / "x.js").write_text("x" * 9000)
    (app / "main.js").write_text("run()\n")
    to = f"{docker_registry.host}/{repository}"
    push(app, to, "-e", "X=</style><script>", "--layers", "size").ok()
    for flags in ([], ["--deep"]):
        path = tmp_path / "page.html"
        regpush("inspect", to, "--html", path, *flags).ok()
        assert "script" not in outline(path.read_text()).tags
        assert pictures(path.read_text())


def test_a_page_that_cannot_be_written(two, tmp_path):
    references, _ = two
    path = tmp_path / "no" / "page.html"
    regpush("inspect", references[0], "--html", path).failed(2, "cannot write")
    regpush("inspect", references[0], f"{references[0]}-not").failed(4, "no such image")


@given(
    st.lists(st.floats(1, 1e6), min_size=1, max_size=60),
    st.floats(10, 2000),
    st.floats(10, 2000),
)
def test_areas_are_in_proportion_and_fill_the_box(weights, width, height):
    weights.sort(reverse=True)
    outer = Box(3, 5, width, height)
    boxes = squarify(weights, outer)
    for weight, box in zip(weights, boxes, strict=True):
        wanted = width * height * weight / sum(weights)
        assert math.isclose(box.width * box.height, wanted, rel_tol=1e-6, abs_tol=1e-3)
        assert box.x >= 3 - 1e-3
        assert box.y >= 5 - 1e-3
        assert box.x + box.width <= 3 + width + 1e-3
        assert box.y + box.height <= 5 + height + 1e-3
    for number, one in enumerate(boxes):
        for two in boxes[number + 1 :]:
            across = min(one.x + one.width, two.x + two.width) - max(one.x, two.x)
            down = min(one.y + one.height, two.y + two.height) - max(one.y, two.y)
            assert across < 1e-3 or down < 1e-3


def test_the_example_of_the_paper():
    """Weights 6 6 4 3 2 2 1 in a box of 6 by 4: the first row is 6 6, on the left."""
    boxes = squarify([6, 6, 4, 3, 2, 2, 1], Box(0, 0, 6, 4))
    assert boxes[:2] == [Box(0, 0, 3, 2), Box(0, 2, 3, 2)]
    assert (boxes[2].width, boxes[2].height) == pytest.approx((12 / 7, 7 / 3))
    assert (boxes[3].width, boxes[3].height) == pytest.approx((9 / 7, 7 / 3))
    assert squarify([], Box(0, 0, 1, 1)) == []
    assert squarify([9, 1e-300, 0.0], Box(0, 0, 1, 1))[0] == Box(0, 0, 1, 1)
    assert squarify([0.0], Box(0, 0, 1, 1)) == [Box(0, 0, 0, 0)]


def test_an_index_is_shown_with_all_its_images(docker_registry, repository, tmp_path):
    root = tmp_path / "app"
    root.mkdir()
    (root / "main.py").write_text("print(1)\n")
    to = f"{docker_registry.host}/{repository}"
    regpush(root, "--to", to, "--no-cache", "--platform", "linux/amd64,linux/arm64").ok()
    told = regpush("inspect", to, "--format", "json").ok().report
    assert [one["platform"] for one in told["images"]] == ["linux/amd64", "linux/arm64"]
    shown = regpush("inspect", to).ok().stdout
    assert "linux/amd64" in shown
    assert "linux/arm64" in shown
    one = regpush("inspect", to, "--platform", "linux/arm64", "--format", "json").ok().report
    assert one["platform"] == "linux/arm64"
