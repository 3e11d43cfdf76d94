"""The JSON Schema of the reports: a validator for tests, and its reference in docs/reference.

`python -m tests.schema` writes docs/reference/report.md; the tests only compare.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import jsonschema

from regpush.cli.commands import schema
from tests.documents import ROOT

DOCUMENT = ROOT / "docs" / "reference" / "report.md"
COMMAND = "python -m tests.schema"
_SUBCOMMANDS = schema.of(None)["x-commands"]


@functools.cache
def _validator(command: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema.of(command))


def validate(arguments: Sequence[str], stdout: str) -> None:
    """Fail if the JSON on `stdout` of the command `arguments` violates the schema."""
    words = [str(word) for word in arguments]
    named = next((word for word in words[:1] if word in _SUBCOMMANDS), None)
    if "json" in words and "--format" in words and stdout.startswith("{"):
        if named is None and words[0] in ("sbom", "history", "resolve", "init"):
            return
        problem = next(_validator(named or "push").iter_errors(json.loads(stdout)), None)
        assert problem is None, f"{words[:2]}: {problem.json_path}: {problem.message}"


def reference() -> str:
    """Return Markdown with every field of every report."""
    whole = schema.of(None)
    by_report: dict[str, list[str]] = {}
    for command, name in whole["x-commands"].items():
        by_report.setdefault(name, []).append(command)
    parts = [
        "# The JSON report",
        f"Generated from the schema by `{COMMAND}`. `regpush schema [COMMAND]` prints the schema "
        "(JSON Schema, draft 2020-12). `schema` is 1, and changes only when a field is removed or "
        "changes its meaning; new fields may be added at any time. Sizes are bytes.",
    ]
    shown = list(by_report) + [name for name in whole["$defs"] if name not in by_report]
    for name in shown:
        definition = whole["$defs"][name]
        parts += [f"## {name}", definition.get("description", "")]
        rows = list(_rows(definition, ""))
        parts.append("\n".join(["| field | type | meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _rows(value: dict[str, Any], path: str) -> Iterator[str]:
    for one in value.get("anyOf", []):
        if "$ref" in one:
            yield f"| (one image) | {_type(one)} | |"
        yield from _rows(one, path)
    for name, inner in value.get("properties", {}).items():
        at = f"{path}.{name}".lstrip(".")
        optional = "" if name in value.get("required", []) else " (not always)"
        meaning = inner.get("description", "").replace("|", "\\|")
        yield f"| `{at}`{optional} | {_type(inner)} | {meaning} |"
        inside, mark = inner, ""
        if inner.get("type") == "array":
            inside, mark = inner["items"], "[]"
        elif isinstance(inner.get("additionalProperties"), dict):
            inside, mark = inner["additionalProperties"], ".*"
        yield from _rows(inside, f"{at}{mark}")


def _type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name})"
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    kind = value.get("type", "any")
    if kind == "array":
        return f"list of {_type(value['items'])}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


if __name__ == "__main__":
    DOCUMENT.write_text(reference(), "utf-8")
