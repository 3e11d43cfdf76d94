"""Options of Guix and Nix that their users write as they are used to."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from itertools import islice

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

NIX_WORDS = {"--impure": 0, "--arg": 2, "--argstr": 2, "--override-input": 2, "-I": 1}
"""Options of Nix that decide what an installable evaluates to, and how many words follow each
(Nix manual, "nix build")."""
_NIX_OPTION = "--nix-option"


def wrapped(arguments: Iterable[str]) -> list[str]:
    """`arguments` with options of Guix and Nix as values of `--guix-option`, `--nix-option`."""
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word == "--":
            return [*words, word, *rest]
        name, equals, _ = word.partition("=")
        if word in NIX_WORDS:
            word = _nix(word, *islice(rest, NIX_WORDS[word]))
        elif word == _NIX_OPTION:
            word = _nix_option(rest)
        elif name in _TRANSFORMATIONS or name == _TUNE:
            if name in _TRANSFORMATIONS and not equals:
                word = f"{word}={next(rest, '')}"
            word = f"--guix-option={word}"
        words.append(word)
    return words


def _nix_option(rest: Iterator[str]) -> str:
    """The value of `--nix-option`: NAME and VALUE, or a word of Nix with what follows it."""
    name = next(rest, "")
    if " " in name:
        return f"{_NIX_OPTION}={name}"  # both in one word, as variables and files have them
    return _nix(name, *islice(rest, NIX_WORDS.get(name, 1)))


def _nix(*words: str) -> str:
    return f"{_NIX_OPTION}={shlex.join(words)}"
