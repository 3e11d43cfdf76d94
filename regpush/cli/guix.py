"""Guix's transformation options, which its users write as they are used to."""

from __future__ import annotations

from collections.abc import Iterable

_TRANSFORMATIONS = frozenset(
    {
        "--with-source", "--with-input", "--with-graft", "--with-debug-info",
        "--with-c-toolchain", "--with-git-url", "--with-branch", "--with-commit",
        "--with-configure-flag", "--with-patch", "--with-latest", "--with-version",
        "--without-tests",
    }
)  # fmt: skip
"""Guix manual, "Package Transformation Options": all take a value."""
_TUNE = "--tune"
"""The one whose value may be left out, so that none follows it as a word of its own."""


def wrapped(arguments: Iterable[str]) -> list[str]:
    """`arguments` with each transformation option as the value of `--guix-option`."""
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word == "--":
            return [*words, word, *rest]
        name, equals, _ = word.partition("=")
        if name in _TRANSFORMATIONS and not equals:
            word = f"{word}={next(rest, '')}"
        if name in _TRANSFORMATIONS or name == _TUNE:
            word = f"--guix-option={word}"
        words.append(word)
    return words
