"""Every file read from disk, damaged: with the commands that read it, any exit code but 1."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.commands import HOSTILE, check, regpush
from tests.registry.static import StaticRegistry, run_static_registry

DIGEST = "sha256:" + "ab" * 32
STORE = "/nix/store/" + "0" * 32 + "-hello-2.12"
FILES = {
    "regpush.toml": '[defaults]\nto = "HOST/{app}"\ntag = ["a"]\n[apps.web]\ntarget = "./app"\n'
    'cmd = ["run"]\nenv = { A = "b" }\nmax-layers = 3\n',
    "auth.json": '{"auths": {"HOST": {"auth": "bWU6c2VjcmV0"}}, "credHelpers": {"x": "y"}}',
    "app/.regpushignore": "*.pyc\n!keep.pyc\n/build/\n**/a[0-9]*\n\\#x\n",
    "layers.json": '{"layers": [["*/a"], ["*"]]}',
    "closure.json": json.dumps({STORE: {"narHash": DIGEST, "narSize": 5, "references": [STORE]}}),
    "history.json": json.dumps(
        {"schema": 1, "name": "x", "semantics": "plain",
         "items": [{"name": "a", "hash": "0" * 32, "size": 5, "refs": [], "origin": "a"}],
         "pushes": [{"app": "x", "date": "", "roots": [0], "add": [0], "remove": []}]}
    ),
    "app/package.json": '{"name": "web", "main": "x.js", "scripts": {"start": "node x.js"}}',
    "app/node_modules/a/package.json": '{"name": "@b/a", "version": "1.0.0"}',
    "app/site-packages/b-1.dist-info/METADATA": "Name: b\nVersion: 1\n\ntext",
    "app/site-packages/b-1.dist-info/RECORD": "b/x.py,,\n",
    "app/site-packages/b/x.py": "x",
    "app/pyproject.toml": '[project]\nname = "web"\n[project.scripts]\nweb = "web:main"\n',
    "app/vendor/modules.txt": "# github.com/a/b v1.0.0\n## explicit\ngithub.com/a/b\n",
    "app/var/lib/dpkg/status": "Package: a\nStatus: install ok installed\nVersion: 1\n",
    "app/main.py": "run()\n",
    "k8s.yaml": "kind: Pod\nspec:\n  containers:\n  - image: regpush://web\n",
    "ca.pem": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def registry() -> Iterator[StaticRegistry]:
    with run_static_registry() as found:
        yield found


def damaged(data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice([1, 1, 2, 4])):
        at = chance.randrange(len(data) + 1)
        end = min(at + chance.choice([0, 1, 5, 50]), len(data))
        hostile = chance.choice(HOSTILE).encode("utf-8", "surrogatepass")
        pieces = [hostile, data[at:end] * 3, b"", b"\xff\xfe", b"\0", b"[" * 3000, b'"', b"9" * 500,
                  b"null", b"{}", b"[]", b"-1", b"\n", b"&a [*a]"]  # fmt: skip
        data = data[:at] + chance.choice(pieces) + data[end:]
    return data


def place(path: Path, name: str, data: bytes, chance: random.Random) -> None:
    """Write the file, or put something in its place that is no file."""
    path = path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    match chance.randrange(25):
        case 0:
            path.mkdir()
        case 1:
            path.symlink_to(path.name)
        case 2:
            path.symlink_to("nowhere")
        case _:
            path.write_bytes(data)


def fuzz(registry: StaticRegistry, root: Path, count: int, seed: int) -> Counter[int]:
    chance, codes = random.Random(seed), Counter[int]()
    quiet = ["--progress", "none", "--retry-times", "0"]
    to = f"{registry.host}/team/app"
    for number in range(count):
        there, cache = root / "work", root / "cache"
        shutil.rmtree(there, ignore_errors=True)
        broken = chance.choice(list(FILES))
        for name, text in FILES.items():
            data = text.replace("HOST", registry.host).encode()
            place(there, name, damaged(data, chance) if name == broken else data,
                  chance if name == broken else random.Random(1))  # fmt: skip
        if broken.startswith("app/") and chance.random() < 0.2:
            hostile = (
                chance.choice(HOSTILE[:8])
                .replace("/", "_")
                .replace("\0", "_")
                .encode("utf-8", "replace")
            )
            (there / "app" / hostile.decode()).write_text("x")
        if chance.random() < 0.1:
            for file in cache.rglob("*"):
                if file.is_file():
                    file.write_bytes(damaged(file.read_bytes()[:100_000], chance))
        config, auth = ["--config", there / "regpush.toml"], ["--authfile", there / "auth.json"]
        app = there / "app"
        words: list[object] = chance.choice([
            [app, "--to", to, *quiet, *auth],
            [app, "--to", to, *quiet, "--sbom", "spdx", "--provenance"],
            ["plan", app, "--to", to, *quiet, "-v"],
            ["plan", app, "--to", to, *quiet, "--layers", f"file:{there / 'layers.json'}"],
            ["web", *config, *quiet],
            ["config", "web", *config],
            ["config", *config, "--format", "json"],
            ["plan", f"closure:{there / 'closure.json'}", "--to", to, *quiet],
            ["simulate", there / "history.json"],
            ["simulate", there / "history.json", "--layers", "auto", "--format", "json"],
            ["resolve", "-f", there / "k8s.yaml", *config, *quiet],
            ["inspect", f"{to}:latest", *auth, "--ca-file", there / "ca.pem"],
            ["login", registry.host, "-u", "x", *auth],
            ["logout", registry.host, *auth],
        ])  # fmt: skip
        try:
            env = {"REGPUSH_DEBUG": "1", "XDG_CACHE_HOME": str(cache)}
            ended = regpush(*words, env=env)
            if words[0] == "resolve":
                # What is on stdout are the user's own manifests, byte for byte.
                ended = type(ended)(
                    words=ended.words, code=ended.code, stdout="", stderr=ended.stderr
                )
            check(ended)
        except BaseException as error:
            error.add_note(f"number {number} of seed {seed}: {words}, {broken} damaged")
            raise
        codes[ended.code] += 1
    return codes


@pytest.mark.parametrize("seed", range(2))
def test_no_file_is_a_bug_of_ours(registry: StaticRegistry, tmp_path: Path, seed: int) -> None:
    codes = fuzz(registry, tmp_path, 50, seed)
    assert codes[0]
    assert codes[2]


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 104))
def test_no_file_of_many_is_a_bug_of_ours(
    registry: StaticRegistry, tmp_path: Path, seed: int
) -> None:
    print(dict(fuzz(registry, tmp_path, 2000, seed)))
