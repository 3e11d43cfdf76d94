"""Translate the inputs of the GitHub Action to a command line of regpush. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping

from regpush.errors import UsageError, printable

_PREFIX = "INPUT_"


def given(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the action's inputs by their names in `action.yml`, which sets `INPUT_…` variables."""
    return {
        name.removeprefix(_PREFIX).lower().replace("_", "-"): text
        for name, text in environ.items()
        if name.startswith(_PREFIX)
    }


def without_inputs(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for regpush: `environ` without the inputs, which hold passwords.

    REGPUSH_SAFE_DIRECTORY is set to the workspace, because another user owns the workspace in a
    container job.
    """
    beneath = {name: text for name, text in environ.items() if not name.startswith(_PREFIX)}
    workspace = environ.get("GITHUB_WORKSPACE")
    return {"REGPUSH_SAFE_DIRECTORY": workspace, **beneath} if workspace else beneath


def pushes(inputs: Mapping[str, str]) -> bool:
    """Return the value of the input `push`: True to push, False only to plan.

    Raises UsageError for a text other than `true` and `false`.
    """
    text = inputs.get("push", "").strip() or "true"
    # GitHub's own toolkit accepts the same texts, the booleans of YAML 1.2 (core.getBooleanInput).
    if text.lower() not in ("true", "false"):
        raise UsageError(f"the input push is '{printable(text)}': write true or false")
    return text.lower() == "true"


def arguments(inputs: Mapping[str, str]) -> list[str]:
    """Return the arguments of regpush for these inputs, with `--format=json`.

    The value of an input becomes part of one argument, whatever characters it holds, and cannot be
    read as a flag. Only `extra-args` is split into arguments, by the rules of a shell. Raises
    UsageError for an input that is malformed.
    """
    words = ["push" if pushes(inputs) else "plan", "--progress=plain"]
    for name, flag, read in _FLAGS:
        words += [f"{flag}={value}" for value in read(inputs.get(name, ""))]
    words += [f"--tag={tag}" for tag in _tags(inputs)]
    words += _login(inputs)
    try:
        words += shlex.split(inputs.get("extra-args", ""))
    except ValueError as error:
        raise UsageError(f"the input extra-args cannot be split into words: {error}") from error
    return [*words, "--format=json", "--", *lines(inputs.get("target", ""))]


def lines(text: str) -> list[str]:
    """Return the non-blank lines of `text`, without white space around them."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def lower_name(reference: str) -> str:
    """Return `reference` with its registry and repository in lower case; a tag keeps its case.

    Registries require lower case, but names of owners on GitHub may have capitals.
    """
    name, at, digest = reference.partition("@")
    host, slash, rest = name.rpartition("/")
    last, colon, tag = rest.partition(":")
    return f"{host}{slash}{last}".lower() + colon + tag + at + digest


def _whole(text: str) -> Iterator[str]:
    if value := text.strip():
        yield value


def _reference(text: str) -> Iterator[str]:
    yield from map(lower_name, _whole(text))


def _references(text: str) -> Iterator[str]:
    yield from map(lower_name, lines(text))


def _listed(text: str) -> list[str]:
    """Split the value of an input at commas and line ends."""
    return lines(text.replace(",", "\n"))


def _joined(text: str) -> Iterator[str]:
    yield from _whole(",".join(_listed(text)))


_FLAGS: tuple[tuple[str, str, Callable[[str], Iterator[str] | list[str]]], ...] = (
    ("to", "--to", _reference),
    ("labels", "--label", lines),
    ("annotations", "--annotation", lines),
    ("platforms", "--platform", _joined),
    ("from", "--from", _reference),
    ("layers", "--layers", _whole),
    ("max-layers", "--max-layers", _whole),
    ("reuse-from", "--reuse-from", _references),
    ("sbom", "--sbom", _whole),
    ("max-upload", "--max-upload", _whole),
)


def _tags(inputs: Mapping[str, str]) -> list[str]:
    """Return the tags in the input `tags`, without repository names before them.

    docker/metadata-action writes `REGISTRY/REPOSITORY:` before each tag.
    """
    # A colon before the last slash is that of a port: tags contain no slash.
    host, slash, last = lower_name(inputs.get("to", "").strip()).partition("@")[0].rpartition("/")
    name = f"{host}{slash}{last.partition(':')[0]}:"
    return [lower_name(tag).removeprefix(name) if "/" in tag else tag
            for tag in _listed(inputs.get("tags", ""))]  # fmt: skip


def _login(inputs: Mapping[str, str]) -> list[str]:
    """Return the flags for the inputs `username` and `password`; the password comes by stdin.

    Raises UsageError if only one of them is given.
    """
    username = inputs.get("username", "").strip()
    if bool(username) != bool(inputs.get("password")):
        raise UsageError("the inputs username and password must be given together")
    return [f"--username={username}", "--password-stdin"] if username else []
