"""No image has an empty layer, or one layer twice: GKE image streaming serves none that has."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import regpush
from regpush.commands.rebase import rebase
from regpush.digest import Digest
from regpush.errors import UsageError
from regpush.layering.strategies import STRATEGIES
from regpush.options import ImageOptions, LayerOptions, PushOptions, RegistryOptions, SourceOptions
from regpush.report import PushResult
from regpush.settings import Settings
from tests import images
from tests.flow.test_from import config, layer, put_base, raw
from tests.images import Tree
from tests.registry.parts import real_part
from tests.registry.servers import Registry
from tests.stores import NixStore

EMPTY = gzip.compress(bytes(1024), mtime=0)
"""A layer as build tools make it for a step that changes no file."""


@dataclass(frozen=True, kw_only=True)
class App:
    """Two versions of an app, what each must look like in an image, and where they lie."""

    versions: tuple[str, str]
    trees: tuple[Tree, Tree]
    settings: Settings


def _below(folder: str, tree: Tree) -> Tree:
    """`tree` as it lies below `folder` of an image, with the folders above it."""
    parts = folder.strip("/").encode().split(b"/")
    above = [b"/".join(parts[:n]) for n in range(1, len(parts))]
    directory = images.Node(kind="directory", mode=0o755, uid=0, gid=0)
    return dict.fromkeys(above, directory) | {
        b"/".join([*parts, path]) if path else b"/".join(parts): node for path, node in tree.items()
    }


def _tree(path: Path) -> Tree:
    """`path` itself and all below it, as stores are in an image."""
    root = images.tree(path.parent)[path.name.encode()]
    inside = images.tree(path) if root.kind == "directory" else {}
    return images.as_store({b"": root, **inside})


def _directories(root: Path) -> App:
    one = root / "one/app"
    for package in ("left-pad", "right-pad", "empty"):
        (one / "node_modules" / package).mkdir(parents=True)
    for package in ("left-pad", "right-pad"):
        (one / "node_modules" / package / "index.js").write_text(f"// {package}\n" * 900)
    (one / "node_modules/link").symlink_to("left-pad")
    (one / "main.js").write_text("console.log(1)\n")
    (one / "nothing").mkdir()
    two = root / "two/app"
    shutil.copytree(one, two, symlinks=True)
    (two / "main.js").write_text("console.log(2)\n")
    return App(
        versions=(str(one), str(two)),
        trees=(_below("/app", _tree(one)), _below("/app", _tree(two))),
        settings=Settings(),
    )


def _stores(root: Path) -> App:
    if os.getuid():
        pytest.skip("nix-build here needs root")
    nix = NixStore(root / "nix")
    versions = nix.build("1"), nix.build("2")

    def tree(version: Path) -> Tree:
        found: Tree = {}
        for path in nix.closure(version):
            found |= _below(path, _tree(Path(path)))
        return found

    return App(
        versions=(str(versions[0]), str(versions[1])),
        trees=(tree(versions[0]), tree(versions[1])),
        settings=Settings.from_environ(nix.environment),
    )


_APPS: dict[str, Callable[[Path], App]] = {"directory": _directories, "store": _stores}


@pytest.fixture(scope="module", params=_APPS)
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> App:
    return _APPS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(params=[*STRATEGIES, "file"])
def layers(request: pytest.FixtureRequest, tmp_path: Path) -> LayerOptions:
    if request.param != "file":
        return LayerOptions(strategy=request.param)
    split = tmp_path / "layers.json"
    split.write_text('{"layers": [["*e*"]]}')
    return LayerOptions(strategy=f"file={split}")


def _push(app: App, version: int, to: str, base: str, layers: LayerOptions) -> PushResult:
    options = PushOptions(
        cache=False,
        layers=layers,
        source=SourceOptions(base=base),
        image=ImageOptions(workdir="/app"),
    )
    return regpush.push(app.versions[version], to=to, options=options, settings=app.settings)


def _diff_ids(reference: str) -> list[str]:
    """As its config has them; each is a layer, none is empty or there twice."""
    found: list[str] = config(reference)["rootfs"]["diff_ids"]
    assert len(set(found)) == len(found)
    assert "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef" not in found
    digests = [one["digest"] for one in raw(reference)["layers"]]
    assert len(set(digests)) == len(digests) == len(found)
    history = [one for one in config(reference)["history"] if not one.get("empty_layer")]
    assert len(history) == len(found)
    return found


def _assert_tree(reference: str, directory: Path, *apps: Tree) -> None:
    """The image holds the foreign base and, over it, `apps` and what a push adds to stores."""
    found = images.tree(images.unpack(reference, directory))
    expected: Tree = {}
    for tree in apps:
        expected |= tree
    # A push adds what programs expect of a system; the store of the test lies below /tmp.
    tops = {path.partition(b"/")[0] for path in expected}
    found = {path: node for path, node in found.items() if path.partition(b"/")[0] in tops}
    for tree in (found, expected):
        tree.pop(b"tmp", None)
    images.assert_same_tree(found, expected)


def test_over_every_base_each_layer_is_there_once_and_all_files_are(
    embedded_registry: Registry, repository: str, app: App, layers: LayerOptions, tmp_path: Path
) -> None:
    at = f"{embedded_registry.host}/{repository}"
    foreign = put_base(embedded_registry, f"{repository}-base", [layer("etc/os")])
    first, second = f"{at}:1", f"{at}:2"
    _push(app, 0, first, foreign, layers)
    _diff_ids(first)

    # On itself: everything is there already.
    _push(app, 0, f"{at}:same", first, layers)
    assert _diff_ids(f"{at}:same") == _diff_ids(first)
    again = _push(app, 0, f"{at}:same", first, layers)
    assert (again.changed, again.uploaded_bytes) == (False, 0)

    # On its other version, with which it shares what did not change.
    _push(app, 1, second, first, layers)
    _diff_ids(second)
    _assert_tree(second, tmp_path / "2", app.trees[0], app.trees[1])
    again = _push(app, 1, second, first, layers)
    assert (again.changed, again.uploaded_bytes) == (False, 0)


def _base_layers(reference: str) -> int:
    return int(raw(reference)["annotations"]["dev.regpush.base-layers"])


def test_a_layer_below_those_of_another_tool_is_refused(
    embedded_registry: Registry, repository: str, tmp_path: Path
) -> None:
    """umoci puts a file on the image: whether that rests on the layers below, nobody says."""
    app, layers = _directories(tmp_path), LayerOptions()
    at = f"{embedded_registry.host}/{repository}"
    foreign = put_base(embedded_registry, f"{repository}-base", [layer("etc/os")])
    _push(app, 0, f"{at}:1", foreign, layers)
    layout, file = tmp_path / "layout", tmp_path / "file"
    file.write_text("more\n")
    plain = ["--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"]
    for command in (
        [real_part("skopeo"), "copy", *plain, f"docker://{at}:1", f"oci:{layout}:1"],
        [real_part("umoci"), "insert", "--image", f"{layout}:1", str(file), "/etc/more"],
        [real_part("skopeo"), "copy", *plain, f"oci:{layout}:1", f"docker://{at}:umoci"],
    ):
        subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(UsageError, match=r"layer \d of \d of the base .*:umoci would be in"):
        _push(app, 0, f"{at}:2", f"{at}:umoci", layers)
    # Likewise where another push of regpush lies between: its files may lie below links of it.
    _push(app, 1, f"{at}:above", f"{at}:1", LayerOptions(strategy="single"))
    with pytest.raises(UsageError, match=r"layer \d of \d of the base .*:above would be in"):
        _push(app, 0, f"{at}:2", f"{at}:above", layers)
    # Other layers are no problem: everything in one is a layer that the base has not.
    _push(app, 1, f"{at}:2", f"{at}:umoci", LayerOptions(strategy="single"))
    _diff_ids(f"{at}:2")


def test_what_a_foreign_base_brings_stays_as_it_is(
    embedded_registry: Registry, repository: str, tmp_path: Path
) -> None:
    """Scanners and rebasing tools know a base by its layers, all of them, at the bottom."""
    app = _directories(tmp_path)
    brought = [layer("etc/os"), EMPTY, layer("etc/more"), EMPTY]
    base = put_base(embedded_registry, f"{repository}-base", brought)
    at = f"{embedded_registry.host}/{repository}"
    _push(app, 0, at, base, LayerOptions())
    below = [one["digest"] for one in raw(base)["layers"]]
    assert [one["digest"] for one in raw(at)["layers"][:4]] == below
    assert _base_layers(at) == 4


def test_a_rebase_gives_what_a_push_on_that_base_gives(
    embedded_registry: Registry, repository: str, tmp_path: Path
) -> None:
    app, layers = _directories(tmp_path), LayerOptions()
    at = f"{embedded_registry.host}/{repository}"
    foreign = put_base(embedded_registry, f"{repository}-base", [layer("etc/os")])
    alone = _push(app, 1, f"{at}:alone", foreign, layers)
    _push(app, 0, f"{at}:1", foreign, layers)
    pushed = _push(app, 1, f"{at}:2", f"{at}:1", layers)
    assert _rebase(f"{at}:alone", f"{at}:1", "rebased") == pushed.destinations[0].digest
    assert _rebase(f"{at}:2", foreign, "back") == alone.destinations[0].digest
    # What is said of the old base takes nothing of the app away.
    _rebase(f"{at}:2", foreign, "back", old=f"{at}:1")
    assert raw(f"{at}:back")["layers"] == raw(f"{at}:alone")["layers"]


def _rebase(reference: str, onto: str, tag: str, old: str | None = None) -> Digest | None:
    options = RegistryOptions(tags=(tag,))
    done = rebase(reference, onto=onto, old=old, settings=Settings(), options=options)
    return done.destinations[0].digest
