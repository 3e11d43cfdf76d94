"""The documents of the project, and the code blocks in them that tests run."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


def name_of(document: Path) -> str:
    """Return the path of a document relative to the repository's root."""
    return str(document.relative_to(ROOT))


def blocks_in(document: Path, marker: str) -> list[str]:
    """Return the code blocks of one document that follow `<!-- marker -->`, in order."""
    pattern = rf"<!-- {re.escape(marker)} -->\n```\w+\n(.*?)```"
    return re.findall(pattern, document.read_text("utf-8"), re.DOTALL)


def blocks(marker: str) -> list[str]:
    """Return the code blocks of all documents that follow `<!-- marker -->`, at least one."""
    found = [block for document in DOCUMENTS for block in blocks_in(document, marker)]
    assert found, f"no document has <!-- {marker} -->"
    return found
