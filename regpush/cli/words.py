"""Recognise options of Guix and Nix on the command line without --guix-option or --nix-option."""

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
"""Options of Guix that take a value (Guix manual, "Package Transformation Options")."""
_TUNE = "--tune"
"""The only package transformation of Guix whose value is optional: the next word is not its value.
"""

NIX_WORDS = {"--impure": 0, "--arg": 2, "--argstr": 2, "--override-input": 2, "-I": 1}
"""Options of Nix that change an evaluation, with the number of words that follow each (Nix manual,
"nix build")."""
_NIX_OPTION = "--nix-option"


def wrapped(arguments: Iterable[str]) -> list[str]:
    """Return `arguments` with each option of Guix or Nix as a `--guix-option` or `--nix-option`.

    Words behind `--` stay unchanged.
    """
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
    """Read the words that follow `--nix-option`, and return them as one `--nix-option=…`.

    They are NAME and VALUE, or an option of Nix with its words.
    """
    name = next(rest, "")
    if " " in name:
        return f"{_NIX_OPTION}={name}"  # variables and files hold NAME VALUE
    return _nix(name, *islice(rest, NIX_WORDS.get(name, 1)))


def _nix(*words: str) -> str:
    return f"{_NIX_OPTION}={shlex.join(words)}"
