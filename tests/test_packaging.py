"""What is installed: the wheel and the sdist, and the requirements that are locked."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from regpush import __version__
from tests.patience import HANG_S
from tests.program import ROOT, environment
from tests.registry.parts import real_part

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
SOURCES = PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
LOCKS = ROOT / ".github"
LOCKED, SBOM_LOCKED, PYTHON_LOCKED, BUILD_LOCKED = (
    LOCKS / f"{name}.txt"
    for name in ("requirements", "requirements-sbom", "requirements-python", "build-requirements")
)
LOCK = "bash .ci/lock"


def pins(path: Path) -> dict[str, str]:
    """Versions by name, as locked."""
    found = re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def needed(requirements: list[str]) -> dict[str, Requirement]:
    """Those of `requirements` that this Python and system need, by name."""
    found = {}
    for one in map(Requirement, requirements):
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            found[canonicalize_name(one.name)] = one
    return found


@pytest.mark.parametrize(
    ("path", "requirements"),
    [
        (LOCKED, PROJECT["dependencies"]),
        (SBOM_LOCKED, [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["sbom"]]),
        (PYTHON_LOCKED, [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["python"]]),
        (BUILD_LOCKED, PYPROJECT["build-system"]["requires"]),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else "",
)
def test_what_is_locked_is_what_is_needed(path, requirements):
    """The action and the release install locked packages and no others."""
    locked, pending = pins(path), needed(requirements)
    seen: set[str] = set()
    while pending:
        name, wanted = pending.popitem()
        assert name in locked, f"{name} is not locked: pip install uv && {LOCK}"
        assert locked[name] in wanted.specifier, f"{wanted} is not: pip install uv && {LOCK}"
        if name not in seen:
            seen.add(name)
            pending |= needed(importlib.metadata.requires(name) or [])


def test_what_several_lock_is_the_same():
    """The action installs two of them at once."""
    assert pins(LOCKED).items() <= pins(SBOM_LOCKED).items() & pins(PYTHON_LOCKED).items()
    both = pins(SBOM_LOCKED).keys() & pins(PYTHON_LOCKED).keys()
    assert all(pins(SBOM_LOCKED)[name] == pins(PYTHON_LOCKED)[name] for name in both)


@pytest.mark.parametrize(
    "path", [LOCKED, SBOM_LOCKED, PYTHON_LOCKED, BUILD_LOCKED], ids=lambda path: path.stem
)
def test_locked_packages_have_hashes_and_no_home(path):
    """pip refuses what has no hash; where packages come from is for whoever installs to say."""
    text = path.read_text()
    assert "://" not in text
    assert LOCK in text.splitlines()[1]
    pinned = re.compile(r"[\w.-]+==\S+( ; [^#\\]+?)? +(--hash=sha256:[0-9a-f]{64} *)+")
    for line in text.replace("\\\n", "").splitlines():
        assert line.startswith("#") or pinned.fullmatch(line), line


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Wheel and sdist of this checkout, and of a copy that is newer and closed to others."""
    directory = tmp_path_factory.mktemp("built")
    copy = directory / "elsewhere" / "copy"
    copy.mkdir(parents=True)
    for name in ("pyproject.toml", ".gitignore", *SOURCES):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, copy / name)
    for path in copy.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
        os.utime(path, (1, 1))
    build(copy, directory / "copy")
    build(ROOT, directory / "here")
    return directory


def build(source: Path, destination: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(destination)],
        cwd=source,
        env={**environment(), "SOURCE_DATE_EPOCH": "1700000000"},
        check=True,
        capture_output=True,
    )


def test_two_builds_give_the_same_bytes(built):
    names = {f"regpush-{__version__}-py3-none-any.whl", f"regpush-{__version__}.tar.gz"}
    for folder in ("here", "copy"):
        assert set(os.listdir(built / folder)) == names
    for name in names:
        assert (built / "here" / name).read_bytes() == (built / "copy" / name).read_bytes()


def test_the_wheel_runs_without_the_checkout(built, tmp_path):
    """Installed by pip beside nothing but its dependencies."""
    (wheel,) = (built / "here").glob("*.whl")
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--no-compile", "--target", str(site), str(wheel)],
        check=True,
    )  # fmt: skip
    assert (site / "regpush" / "py.typed").exists()
    (license_file,) = site.glob("regpush-*.dist-info/licenses/LICENSE")
    assert license_file.read_text() == (ROOT / "LICENSE").read_text()
    assert not (site / "tests").exists()
    env = {**environment(), "PYTHONPATH": str(site)}
    program = [sys.executable, str(site / "bin" / "regpush")]

    def said(*command: str) -> str:
        return subprocess.check_output(command, cwd=tmp_path, env=env, text=True, timeout=HANG_S)

    where = said(sys.executable, "-c", "import regpush; print(regpush.__file__)").strip()
    assert where == str(site / "regpush" / "__init__.py")
    assert said(*program, "--version") == f"regpush {__version__}\n"
    assert "Only what changed crossed the network." in said(*program, "demo")


def test_the_wheel_holds_the_package_and_nothing_else(built):
    (wheel,) = (built / "here").glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("regpush/")}
    here = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "regpush").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == here


_STAND_IN = """
let
  named = name: { inherit name; };
  python = builtins.listToAttrs (map (name: { inherit name; value = named name; })
    (builtins.filter builtins.isString (builtins.split "\\n" (builtins.readFile NAMES)))) // {
    python.pythonVersion = "PYTHON";
    buildPythonApplication = arguments: arguments;
    buildPythonPackage = arguments: { name = arguments.pname; inherit arguments; };
  };
  nixpkgs = {
    lib = {
      genAttrs = names: make:
        builtins.listToAttrs (map (name: { inherit name; value = make name; }) names);
      licenses.asl20 = "asl20";
    };
    legacyPackages.x86_64-linux = {
      python3Packages = python;
      fetchPypi = arguments: arguments;
      cmake = named "cmake";
      ninja = named "ninja";
    };
  };
  flake = import FLAKE;
  built = (flake.outputs { self = "the checkout"; inherit nixpkgs; }).packages.x86_64-linux.default;
in {
  inherit (built) pname version meta src;
  needs = map (one: one.name) built.dependencies;
  own = map (one: one.arguments.version)
    (builtins.filter (one: one ? arguments) built.dependencies);
}
"""


def test_the_flake_evaluates(tmp_path):
    """With a nixpkgs that is an empty shell: what the flake asks of it is all there is."""
    extras = PROJECT["optional-dependencies"]
    wanted = needed([*PROJECT["dependencies"], *extras["registry"], *extras["sbom"]])
    names = tmp_path / "names"
    names.write_text("\n".join(["hatchling", "scikit-build-core", *(set(wanted) - {"deflate"})]))
    expression = _STAND_IN.replace("NAMES", str(names)).replace("FLAKE", str(ROOT / "flake.nix"))
    expression = expression.replace("PYTHON", ".".join(map(str, sys.version_info[:2])))
    done = subprocess.run(
        [real_part("nix-instantiate"), "--eval", "--strict", "--json", "-E", expression],
        capture_output=True,
        text=True,
        env={**environment(), "NIX_STATE_DIR": str(tmp_path), "NIX_LOG_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["version"] == __version__
    assert found["meta"]["mainProgram"] in PROJECT["scripts"]
    assert set(found["needs"]) == set(wanted)
    assert found["own"] == [pins(LOCKED)["deflate"]]


def test_guix_gets_what_the_project_needs():
    text = (ROOT / "guix.scm").read_text()
    _, _, package = text.partition('(name "regpush")')
    (inputs,) = re.findall(r"\(propagated-inputs\s+\(list ([^)]*)\)", package)
    listed = [name.removeprefix("python-") for name in inputs.split()]
    wanted = needed([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["registry"]])
    assert set(listed) == set(wanted)
    assert listed == sorted(listed)
    assert f'(version "{__version__}")' in package
    assert f'(version "{pins(LOCKED)["oras"]}")' in text


def test_the_proofs_of_the_security_policy_exist():
    text = (ROOT / "SECURITY.md").read_text()
    named = re.findall(r"`((?:tests/[\w/]*)?(?:test_)?\w+(?:\.py|/))`", text)
    folder = None
    assert named
    for name in named:
        path = ROOT / name if name.startswith("tests/") else folder / name
        assert path.exists(), name
        folder = path if path.is_dir() else path.parent
