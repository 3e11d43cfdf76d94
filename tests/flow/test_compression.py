"""Compression as a registry sees it: how much is sent, and what another one leaves alone."""

import json
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.program import push
from tests.registry.parts import real_part


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """Programs and libraries: modules of the standard library, and what they call."""
    root = tmp_path_factory.mktemp("compression") / "app"
    library = Path(sysconfig.get_path("stdlib"))
    for folder in ("encodings", "asyncio", "email", "lib-dynload"):
        shutil.copytree(library / folder, root / "node_modules" / folder)
    shutil.copytree(library / "json", root / "code")
    return root


def size(layout):
    """Bytes of the layers of an image in a folder of skopeo's."""
    manifest = json.loads((layout / "manifest.json").read_text())
    return sum(layer["size"] for layer in manifest["layers"])


def skopeo(source, *flags):
    command = [real_part("skopeo"), "--insecure-policy", "copy", "--quiet", *flags, *source]
    subprocess.run(command, check=True)


def test_no_more_is_sent_than_by_skopeo(docker_registry, repository, tmp_path, app):
    """Both from the same uncompressed layers, which `regpush push --compression none` made."""
    to = f"{docker_registry.host}/{repository}"
    push(app, f"{to}:plain", "--compression", "none").ok()
    theirs = tmp_path / "skopeo"
    skopeo(
        [f"docker://{to}:plain", f"dir:{theirs}"],
        "--src-tls-verify=false", "--dest-compress", "--dest-compress-format", "gzip",
    )  # fmt: skip
    push(app, f"{to}:gzip", "--compression", "gzip", "--reuse", "none").ok()
    ours = tmp_path / "regpush"
    skopeo([f"docker://{to}:gzip", f"dir:{ours}"], "--src-tls-verify=false")
    assert size(ours) <= 1.02 * size(theirs)


@pytest.mark.parametrize("before", ["gzip:fast", "gzip:best", "gzip"])
@pytest.mark.parametrize("flags", [[], ["--compression", "gzip"], ["--reuse", "content"]], ids=str)
def test_layers_of_another_level_are_reused(docker_registry, repository, app, before, flags):
    """Recipes and diff IDs say what is in a layer, not how it is compressed."""
    to = f"{docker_registry.host}/{repository}"
    first = push(app, to, "--compression", before).ok().report
    again = push(app, to, *flags).ok()
    assert set(again.actions) == {"reused"}
    assert again.report["digest"] == first["digest"]


@pytest.mark.parametrize("compression", ["gzip", "gzip:best", "zstd", "none"])
def test_a_layer_made_anew_has_the_digest_it_had(docker_registry, repository, app, compression):
    to = f"{docker_registry.host}/{repository}"
    flags = ["--compression", compression, "--reuse", "none"]
    digests = {
        push(app, to, *flags, "--jobs", jobs).ok().report["digest"] for jobs in ("1", "4", "16")
    }
    assert len(digests) == 1
