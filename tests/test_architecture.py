"""The layout shows the flow of data: a module imports only from the ones above it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "regpush"

# Top to bottom, as a push flows. A package is one line; inside it, anything goes.
ORDER = [
    "errors",
    "quantities",
    "cancel",
    "workers",
    "digest",
    "reference",
    "platform",
    "events",
    "entry",
    "filesystem",
    "listing",
    "ignore",
    "scan_ahead",
    "closure",
    "ownership",
    "options",
    "settings",
    "aim",
    "configuration",
    "templates",
    "checkout",
    "project",
    "survey",
    "starter",
    "manifests",
    "strategies",
    "sources",
    "archive",
    "compression",
    "packer",
    "inheritance",
    "image",
    "essentials",
    "generated",
    "layout",
    "reuse",
    "recall",
    "causes",
    "comparison",
    "planning",
    "layers",
    "index",
    "tags",
    "registry",
    "sbom",
    "provenance",
    "signing",
    "copying",
    "choice",
    "graph",
    "base",
    "previous",
    "relay",
    "fanout",
    "transfer",
    "publish",
    "run",
    "prepare",
    "assembly",
    "attachments",
    "release",
    "budget",
    "report",
    "account",
    "mirror",
    "rebase",
    "union",
    "pipeline",
    "inspect",
    "rederive",
    "verify",
    "sharing",
    "weights",
    "treemap",
    "login",
    "doctor",
    "history",
    "simulate",
    "recount",
    "embedded",
    "cli",
    "demo",
]

# The product's only users of these libraries.
ONLY_IN = {
    "httpx": "registry",
    "httpcore": "registry",
    "tenacity": "registry",
    "oras": "registry",
    "requests": "registry",
    "starlette": "embedded",
    "uvicorn": "embedded",
    "typer": "cli",
    "rich": "cli",
    "isal": "compression",
    "zstandard": "compression",
    "deflate": "compression",
    "blake3": "entry",
    "yaml": "manifests",
    "tomllib": ("configuration", "project"),
    "sqlite3": ("index", "sources"),
    "pathspec": ("ignore", "sources"),
    "spdx_tools": "sbom",
    "cyclonedx": "sbom",
    "packageurl": "sbom",
}

# The clock, the environment and the terminal belong to the command line; `pipeline` and
# `run` read them for library users, the others measure time-outs.
CLOCKS = {"cli", "doctor", "mirror", "rebase", "union", "run", "cancel", "registry", "embedded"}


def modules():
    return sorted(ROOT.rglob("*.py"))


def noun(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "regpush":
                yield from (f"regpush.{alias.name}" for alias in node.names)
            else:
                yield node.module


def test_every_module_has_its_place():
    assert {noun(path) for path in modules()} - {"__init__", "__main__"} == set(ORDER)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_upwards(path):
    own = noun(path)
    if own in ("__init__", "__main__"):
        return
    for name in imports(path):
        if name.startswith("regpush.") and name != "regpush.__version__":
            other = name.split(".")[1]
            # The command line is the one who calls: it may start the demo, which shows with it.
            if other != own and (own, other) != ("cli", "demo"):
                assert ORDER.index(other) < ORDER.index(own), f"{own} imports {other}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_are_used_in_one_place(path):
    for name in imports(path):
        allowed = ONLY_IN.get(name.split(".")[0], noun(path))
        assert noun(path) in ((allowed,) if isinstance(allowed, str) else allowed), name


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_environment_is_read_at_the_edge(path):
    own = noun(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            said = ast.unparse(node)
            if said in ("os.environ", "os.getenv", "sys.argv", "sys.stdin", "sys.stdout"):
                assert own in ("cli", "pipeline", "embedded"), f"{own} reads {said}"
            if said in ("time.time", "time.monotonic", "time.sleep"):
                assert own in CLOCKS, f"{own} reads the clock"
