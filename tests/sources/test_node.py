"""What a lock of npm says without a network: which packages, which base, what starts the app."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regpush.sources.node import base
from regpush.sources.node.built import Machine, is_lacking

ARM = Machine(cpu="arm64", libc="musl")


@pytest.mark.parametrize(
    ("files", "scripts", "lacks"),
    [
        (["index.js"], {"postinstall": "node banner.js"}, False),
        (["binding.gyp"], {}, True),
        (["index.js"], {"install": "prebuild-install || node-gyp rebuild"}, True),
        (["index.js"], {"test": "node-gyp rebuild"}, False),
        (["binding.gyp", "prebuilds/linux-arm64/a.node"], {}, False),
        (["binding.gyp", "prebuilds/linux-x64/a.node"], {}, True),
        (["binding.gyp", "prebuilds/darwin-x64+arm64/a.node"], {}, True),
        (["binding.gyp", "prebuilds/linux-arm64/a.glibc.node"], {}, True),
        (["binding.gyp", "prebuilds/linux-arm64/a.armv8.musl.node"], {}, False),
        (["binding.gyp", "build/Release/a.node"], {}, False),
    ],
)
def test_what_lacks_machine_code(files, scripts, lacks):
    manifest = json.dumps({"scripts": scripts}).encode()
    assert is_lacking(files, manifest, ARM) is lacks


@pytest.mark.parametrize(
    ("files", "engine", "major"),
    [
        ({".nvmrc": "v20.11.0\n"}, ">=18", 20),
        ({".nvmrc": "lts/jod\n"}, None, 22),
        ({".node-version": "22"}, None, 22),
        ({}, ">=18", 24),
        ({}, "^18 || ^20.1", 20),
        ({}, "20.x", 20),
        ({}, ">=18 <22.5", 22),
        ({}, ">=18 <22", 20),
        ({}, "18 - 20", 20),
        ({}, "16", 16),
    ],
)
def test_the_official_image_of_the_node_that_is_asked_for(tmp_path: Path, files, engine, major):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    manifest = {"engines": {"node": engine}} if engine else {}
    found = base.default_base(str(tmp_path), manifest)
    assert found == f"docker.io/library/node:{major}-slim"


@pytest.mark.parametrize(
    ("manifest", "files", "words", "unsaid"),
    [
        ({"scripts": {"start": "node --enable-source-maps a.js"}}, ["a.js"],
         ("node", "--enable-source-maps", "a.js"), ""),
        ({"scripts": {"start": "next start"}, "main": "b.js"}, ["b.js"], ("node", "b.js"), ""),
        ({"main": "lib"}, ["lib/index.js"], ("node", "lib"), ""),
        ({}, ["server.js", "index.js"], ("node", "server.js"), ""),
        ({}, ["index.js"], ("node", "index.js"), ""),
        ({"scripts": {"start": "node dist/main.js"}}, [], (), "dist/main.js does not exist"),
        ({"main": "dist/main.js"}, ["index.js"], (), "built before the push"),
    ],
)  # fmt: skip
def test_what_starts_the_app(tmp_path: Path, manifest, files, words, unsaid):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    found, said = base.entrypoint(str(tmp_path), manifest)
    assert found == words
    assert (unsaid in said) if unsaid else not said
