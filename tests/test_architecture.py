"""The layout shows the flow of data: a module imports only from the ones above it."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "regpush"

# Top to bottom, as a push flows: a package, or a module right in `regpush/`, imports only from
# those above it. Inside a package, anything goes.
RANKS = [
    "errors",
    "quantities",
    "concurrency",
    "digest",
    "reference",
    "platform",
    "events",
    "entry",
    "tree_hash",
    "files",
    "closure",
    "ownership",
    "options",
    "settings",
    "report",
    "http",
    "layering",
    "sources",
    "image",
    "pack",
    "registry",
    "history",
    "transfer",
    "attach",
    "flow",
    "commands",
    "project",
    "embedded",
    "cli",
]

# The product's only users of these libraries: packages, or modules of them.
ONLY_IN = {
    "httpx": ("http", "registry"),
    "httpcore": ("http", "registry"),
    "tenacity": ("http",),
    "oras": ("registry",),
    "requests": ("registry",),
    "starlette": ("embedded",),
    "uvicorn": ("embedded",),
    "typer": ("cli",),
    "rich": ("cli",),
    "isal": ("files.decompression", "pack.compression", "sources.lock.zipped"),
    "backports": ("files.zstd",),
    "deflate": ("pack.compression",),
    "blake3": ("files.content_hash",),
    "yaml": ("project.kubernetes", "sources.node.pnpm"),
    "tomllib": ("project", "sources.python", "sources.inside"),
    "packaging": ("sources.python",),
    "installer": ("sources.python",),
    "uv": ("sources.python",),
    "sqlite3": ("history.cache", "sources"),
    "spdx_tools": ("attach.sbom",),
    "cyclonedx": ("attach.sbom",),
    "packageurl": ("attach.sbom",),
}

# The environment belongs to the command line, and to `flow.pipeline` for library users.
ENVIRONMENT = ("cli", "flow.pipeline", "embedded")

# `flow.context` and the commands take the time of a run; the others measure time-outs.
CLOCKS = ("cli", "commands", "flow.context", "concurrency", "http", "registry", "embedded")


def modules():
    return sorted(ROOT.rglob("*.py"))


def within(path: Path, places: Iterable[str]) -> bool:
    """Whether `path` is one of the modules `places`, or lies in a package of that name."""
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return any(dotted == place or dotted.startswith(f"{place}.") for place in places)


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
    assert {noun(path) for path in modules()} - {"__init__", "__main__"} == set(RANKS)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_upwards(path):
    own = noun(path)
    if own in ("__init__", "__main__"):
        return
    for name in imports(path):
        if name.startswith("regpush.") and name != "regpush.__version__":
            other = name.split(".")[1]
            if other != own:
                assert RANKS.index(other) < RANKS.index(own), f"{own} imports {other}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_are_used_in_one_place(path):
    for name in imports(path):
        allowed = ONLY_IN.get(name.split(".")[0])
        assert allowed is None or within(path, allowed), name


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_environment_is_read_at_the_edge(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            said = ast.unparse(node)
            if said in ("os.environ", "os.getenv", "sys.argv", "sys.stdin", "sys.stdout"):
                assert within(path, ENVIRONMENT), f"reads {said}"
            if said in ("time.time", "time.monotonic", "time.sleep"):
                assert within(path, CLOCKS), "reads the clock"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_schemes_of_identities_are_told_apart_in_one_place(path):
    """A scheme that somebody forgot to compare with was a crash and four false statements."""
    tree = ast.parse(path.read_text())
    named = any(isinstance(node, ast.Name) and node.id == "Scheme" for node in ast.walk(tree))
    assert not named or within(path, ["closure"])


TESTS = Path(__file__).parent
CLOCK = re.compile(r"\b(monotonic|perf_counter|process_time|time)\(\)")


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.name)
def test_no_test_asserts_that_something_was_quick(path):
    """On a busy machine it is not: tests count steps, wait for events, or guard by `HANG_S`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare):
            *_, most = node.test.comparators
            below = isinstance(node.test.ops[-1], ast.Lt | ast.LtE)
            number = isinstance(most, ast.Constant | ast.BinOp) and "HANG_S" not in ast.unparse(
                most
            )
            assert not (below and number and CLOCK.search(ast.unparse(node))), ast.unparse(node)


def test_no_class_name_means_two_things():
    """One name, one meaning: a reader who searches for a class finds one."""
    places: dict[str, list[str]] = {}
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "cli" / "commands").glob("*.py")), ids=lambda path: path.stem
)
def test_commands_import_on_top(path):
    """Each command is a module that is imported when it is called: nothing need wait longer."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            inside = [one for one in ast.walk(node) if isinstance(one, ast.Import | ast.ImportFrom)]
            assert not inside, f"{node.name} imports inside"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_docstring_leans_on_another(path: Path) -> None:
    """A docstring is read alone: it names what it is like."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            said = ast.get_docstring(node) or ""
            assert not re.match(r"(The same|As|Those|Likewise)\b", said), said


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_late_import_says_why(path: Path) -> None:
    """On its line, or on the line before: what it costs, or who does without it."""
    lines = path.read_text().splitlines()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for late in ast.walk(node):
                if isinstance(late, ast.Import | ast.ImportFrom):
                    said = lines[late.lineno - 1 : late.end_lineno]
                    before = lines[late.lineno - 2].strip()
                    assert any("#" in line for line in said) or before.startswith("#"), said
