"""The commands of README and docs are run as they stand, the test command itself excepted."""

import re
import subprocess
from importlib import import_module

import pytest

from tests import flags
from tests.documents import DOCUMENTS, ROOT, blocks, blocks_in, name_of
from tests.patience import HANG_S
from tests.program import environment, program_on_path, regpush

SESSIONS = [document for document in DOCUMENTS if blocks_in(document, "localhost")]


def block(marker: str) -> str:
    (found,) = blocks(marker)
    return found


def test_the_demo_command_ends_in_the_demo():
    """Virtual environment and installation are CI's own way here; the demo itself is run."""
    assert block("demo-command").strip().endswith("bin/regpush demo")
    done = regpush("demo").ok()
    shown, real = block("demo-output"), done.stdout

    def shape(text):
        text = re.sub(r"127\.0\.0\.1:\d+", "HOST", text)
        text = re.sub(r"sha256:[0-9a-f]{64}", "DIGEST", text)
        return [re.sub(r"[\d.]+ ?(k?B|MB|s)?\b", "N", line).split() for line in text.splitlines()]

    said = [line[:2] for line in shape(shown) if line]
    did = [line[:2] for line in shape(real) if line]
    for line in (["First", "push:"], ["$", "regpush"], ["One", "line"]):
        assert line in said
        assert line in did
    first, second = re.findall(r"push: ([\d.]+ \w+)\.", real)
    assert first.endswith("MB")
    assert second.endswith("kB")


@pytest.mark.parametrize("document", SESSIONS, ids=name_of)
def test_every_command_against_localhost(document, tmp_path, docker_registry):
    """Blocks marked `localhost` are one shell session; what follows `$` is run, as it stands."""
    home = tmp_path / "home"
    (home / "myapp" / "node_modules" / "left-pad").mkdir(parents=True)
    (home / "myapp" / "main.py").write_text("print('hello')\n")
    (home / "myapp" / "node_modules" / "left-pad" / "index.js").write_text("x" * 100_000)
    env = environment(HOME=str(home))
    env["PATH"] = program_on_path(home / "bin", env["PATH"])
    for text in blocks_in(document, "localhost"):
        for line in text.splitlines():
            if line.startswith("$ "):
                command = line[2:].replace("localhost:5000", docker_registry.host)
                done = subprocess.run(
                    ["bash", "-euo", "pipefail", "-c", command],
                    cwd=home,
                    env=env,
                    capture_output=True,
                    text=True,
                    timeout=3 * HANG_S,
                )
                assert done.returncode == 0, (command, done.stderr)


def test_the_library_example(tmp_path, docker_registry, repository, monkeypatch, capsys):
    example = block("library")
    (tmp_path / "myapp").mkdir()
    (tmp_path / "myapp" / "main.py").write_text("print('hello')\n")
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CACHE_HOME", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    to = f"{docker_registry.host}/{repository}"
    exec(compile(example.replace("localhost:5000/app", to), "library.md", "exec"), {})
    first, ref, own = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"layer 1 uploaded \d+ no previous image", first)
    assert re.fullmatch(rf"{to}@sha256:[0-9a-f]{{64}} True \d+", ref)
    assert re.fullmatch(r"app uploaded \d+ sha256:[0-9a-f]{64} no previous image", own)


@pytest.mark.parametrize("package", ["regpush", "regpush.attach.sbom", "regpush.embedded"])
def test_everything_the_package_names_is_there(package):
    named = import_module(package)
    assert [name for name in named.__all__ if not hasattr(named, name)] == []


def test_the_reference_of_flags_is_that_of_the_command_line():
    assert flags.written() == flags.reference(), f"the flags have changed: run {flags.COMMAND}"


def test_the_configuration_and_the_manifest(tmp_path, docker_registry):
    """Blocks marked `localhost-config`, beside the file and the manifest that the guide shows."""
    configuration = block("configuration")
    manifest = block("kubernetes")
    (tmp_path / "myapp").mkdir()
    (tmp_path / "myapp" / "main.js").write_text("console.log('hello')\n")
    host = docker_registry.host
    (tmp_path / "regpush.toml").write_text(configuration.replace("localhost:5000", host))
    for line in block("localhost-config").splitlines():
        assert line.startswith("$ regpush ")
        words = line.removeprefix("$ regpush ").replace("localhost:5000", host).split()
        regpush(*words, cwd=tmp_path).ok()
    done = regpush("resolve", "-f", "-", "--to", f"{host}/x", cwd=tmp_path, stdin=manifest).ok()
    expected = manifest
    for name, image in (("shop", f"{host}/shop"), ("./myapp", f"{host}/x/myapp")):
        (digest,) = re.findall(rf"{image}@(sha256:[0-9a-f]{{64}})", done.stdout)
        expected = expected.replace(f"regpush://{name}", f"{image}@{digest}")
    assert done.stdout == expected


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_between_documents_lead_somewhere(document):
    text = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150
