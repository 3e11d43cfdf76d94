"""What a lock of npm says without a network: which packages, which base, what starts the app."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regpush.settings import NpmSettings, ProxySettings
from regpush.sources.node import base
from regpush.sources.node.built import Machine, is_lacking
from regpush.sources.node.npmrc import Npmrc
from regpush.sources.node.pnpm_settings import PnpmSettings
from regpush.sources.surroundings import BaseFacts

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
        ({"main": "dist/main.js"}, ["index.js"], (), "build it before the push"),
    ],
)  # fmt: skip
def test_what_starts_the_app(tmp_path: Path, manifest, files, words, unsaid):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    found, said = base.entrypoint(str(tmp_path), manifest)
    assert found == words
    assert (unsaid in said) if unsaid else not said


@pytest.mark.parametrize(
    ("engine", "version", "agrees"),
    [
        (">=18", "20.11.1", True),
        (">=20.11.2", "20.11.1", False),
        ("^20.11.1 || >=22", "20.11.1", True),
        ("^20.12 || >=22", "20.11.1", False),
        ("20.x", "20.11.1", True),
        ("~20.10", "20.11.1", False),
        ("<20", "20.0.0", False),
        ("<=20", "20.11.1", True),
        ("18 - 20.10", "20.11.1", False),
        (">=14.0.0 <21.0.0-0", "20.11.1", True),
        ("*", "20.11.1", True),
        ("", "20.11.1", True),
    ],
)
def test_whether_a_base_has_the_node_of_engines(tmp_path: Path, engine, version, agrees):
    """Ranges of npm's semver, tried with `semver -r RANGE VERSION` of npm's semver 7."""
    facts = BaseFacts(reference="example.com/node:1", env={"NODE_VERSION": version})
    said = base.version_warning(str(tmp_path), {"engines": {"node": engine}}, facts)
    assert (said == "") is agrees
    assert base.version_warning(str(tmp_path), {"engines": {"node": engine}}, None) == ""


@pytest.mark.parametrize(
    ("workspace", "npmrc", "told"),
    [
        ("packages: [a]\n", "", []),
        ("nodeLinker: isolated\nhoistPattern: ['*']\npublicHoistPattern: []\n", "", []),
        ("nodeLinker: hoisted\n", "", ["nodeLinker of pnpm-workspace.yaml"]),
        ("hoist: false\nshamefullyHoist: true\n", "",
         ["shamefullyHoist of pnpm-workspace.yaml", "hoist of pnpm-workspace.yaml"]),
        ("publicHoistPattern: ['*eslint*']\n", "", ["publicHoistPattern of pnpm-workspace.yaml"]),
        ("", "node-linker=hoisted\nhoist-pattern[]=*\n", ["node-linker of .npmrc"]),
        ("", "hoist-pattern[]=*a*\nhoist-pattern[]=*\n", ["hoist-pattern of .npmrc"]),
        # The workspace file counts before .npmrc.
        ("nodeLinker: isolated\n", "node-linker=hoisted\n", []),
    ],
)  # fmt: skip
def test_settings_of_pnpm_that_ask_for_another_layout(tmp_path: Path, workspace, npmrc, told):
    (tmp_path / ".npmrc").write_text(npmrc)
    if workspace:
        (tmp_path / "pnpm-workspace.yaml").write_text(workspace)
    settings = PnpmSettings.of(str(tmp_path), Npmrc.of(str(tmp_path), NpmSettings()))
    assert list(settings.other_layouts()) == told


def test_packages_whose_scripts_pnpm_runs(tmp_path: Path):
    (tmp_path / "package.json").write_text('{"pnpm": {"onlyBuiltDependencies": ["esbuild"]}}')
    (tmp_path / "pnpm-workspace.yaml").write_text(
        "onlyBuiltDependencies: ['@swc/core', 'sharp@0.33.0 || 0.34.0']\n"
        "allowBuilds: {bcrypt: true, core-js: false, '@acme/x@1': true}\n"
    )
    settings = PnpmSettings.of(str(tmp_path), Npmrc.of(str(tmp_path), NpmSettings()))
    assert settings.may_build() == {"esbuild", "@swc/core", "sharp", "bcrypt", "@acme/x"}


@pytest.mark.parametrize(
    ("npmrc", "proxy"),
    [
        ("", None),
        ("proxy=null\nhttps-proxy=false\n", None),
        ("proxy=http://a:1\n", ProxySettings(http="http://a:1", https="http://a:1")),
        ("proxy=http://a:1\nhttps-proxy=http://b:2\nnoproxy=c,d\n",
         ProxySettings(http="http://b:2", https="http://b:2", bypass="c,d")),
    ],
)  # fmt: skip
def test_proxies_of_npm(tmp_path: Path, npmrc, proxy):
    (tmp_path / ".npmrc").write_text(npmrc)
    assert Npmrc.of(str(tmp_path), NpmSettings()).proxies == proxy


def test_hosts_that_npm_reaches_directly_by_the_environment(tmp_path: Path):
    """npm documentation, "noproxy": by default what NO_PROXY says."""
    (tmp_path / ".npmrc").write_text("proxy=http://a:1\n")
    settings = NpmSettings(variables={"NO_PROXY": "b,c"})
    assert Npmrc.of(str(tmp_path), settings).proxies == ProxySettings(
        http="http://a:1", https="http://a:1", bypass="b,c"
    )
