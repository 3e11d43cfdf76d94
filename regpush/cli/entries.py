"""The list of all commands, with section, summary and examples of each for the help.

This module imports no command, so that help and shell completion import little.
"""

from __future__ import annotations

from msgspec import Struct

from regpush.errors import similar

DEFAULT = "push"

_PUSH, _LOOK = "Push", "Look"
_REGISTRY, _PIPELINE = "Registry", "Pipeline"


class CommandEntry(Struct, frozen=True, eq=False):
    """A command in `regpush --help`.

    `panel`: the section that lists it. `summary`: the first line of its function's docstring.
    `examples`: command lines for its own help.
    """

    panel: str
    summary: str
    examples: tuple[str, ...]


ENTRIES = {
    "push": CommandEntry(
        _PUSH,
        "Push TARGET to a registry. The default command: `regpush TARGET --to REF`.",
        (
            "regpush ./myapp --to registry.example.com/app",
            "regpush ./result --to ghcr.io/me/app:v2 -t latest --entrypoint bin/app",
            "regpush ./myapp --to localhost:5000/app --layers auto --max-upload 50MB",
        ),
    ),
    "plan": CommandEntry(
        _PUSH,
        "Show what a push would send and why, without sending it.",
        (
            "regpush plan ./myapp --to registry.example.com/app",
            "regpush plan ./myapp --to registry.example.com/app --exact --link 100mbit",
        ),
    ),
    "copy": CommandEntry(
        _PUSH,
        "Copy an image, or an index with all its images, to another repository, byte for byte.",
        (
            "regpush copy registry.example.com/app:v2 ghcr.io/me/app",
            "regpush copy docker.io/library/debian:12 localhost:5000/debian --platform linux/arm64",
        ),
    ),
    "rebase": CommandEntry(
        _PUSH,
        "Put an image on another base, without its sources: its own layers stay as they are.",
        (
            "regpush rebase registry.example.com/app",
            "regpush rebase registry.example.com/app --from debian:12",
        ),
    ),
    "index": CommandEntry(
        _PUSH,
        "Push one index of images for several platforms, which CI runners pushed by digest.",
        ("regpush index registry.example.com/app:v2 sha256:$AMD64 sha256:$ARM64",),
    ),
    "tag": CommandEntry(
        _PUSH,
        "Add tags to an image or an index in its repository.",
        (
            "regpush tag registry.example.com/app:v2 latest stable",
            "regpush tag registry.example.com/app@sha256:$DIGEST v2 --if-exists fail",
        ),
    ),
    "demo": CommandEntry(
        _PUSH,
        "Push a sample app twice to a temporary registry, and show what crossed the network.",
        ("regpush demo",),
    ),
    "inspect": CommandEntry(
        _LOOK,
        "Show the layers of an image in a registry, or the layers that several images share.",
        (
            "regpush inspect registry.example.com/app:v2",
            "regpush inspect registry.example.com/app --platform linux/arm64 --format json",
            "regpush inspect registry.example.com/app:v1 registry.example.com/app:v2 --html a.html",
        ),
    ),
    "tags": CommandEntry(
        _LOOK,
        "List the tags of a repository with digest, platforms, size and date: 1,000 at most.",
        ("regpush tags registry.example.com/app",),
    ),
    "why": CommandEntry(
        _LOOK,
        "Explain which package caused each upload between two images of a registry.",
        ("regpush why registry.example.com/app:v1 registry.example.com/app:v2",),
    ),
    "history": CommandEntry(
        _LOOK,
        "Write the pushes to a repository as a history file, for `regpush simulate`.",
        ("regpush history registry.example.com/app -o history.json",),
    ),
    "simulate": CommandEntry(
        _LOOK,
        "Score layer strategies on past pushes: bytes sent, divided by the least possible.",
        (
            "regpush simulate history.json",
            "regpush simulate history.json --layers auto --layers stable --max-layers 20",
        ),
    ),
    "sbom": CommandEntry(
        _LOOK,
        "Print the SBOM that is attached to an image (`regpush TARGET --sbom`).",
        ("regpush sbom registry.example.com/app:v2",),
    ),
    "verify": CommandEntry(
        _LOOK,
        "Check that a registry holds an image as it was pushed: blobs, diff IDs and recipes.",
        (
            "regpush verify registry.example.com/app:v2",
            "regpush verify registry.example.com/app:v2 ./myapp --sample 5%",
        ),
    ),
    "doctor": CommandEntry(
        _REGISTRY,
        "Check, step by step, whether this machine can push to REF.",
        (
            "regpush doctor registry.example.com/app",
            "regpush doctor ghcr.io/me/app --format json",
        ),
    ),
    "login": CommandEntry(
        _REGISTRY,
        "Check a password with REGISTRY, and store it where other tools find it too.",
        (
            "regpush login registry.example.com -u me",
            "pass show registry | regpush login registry.example.com -u me --password-stdin",
        ),
    ),
    "logout": CommandEntry(
        _REGISTRY,
        "Delete the stored login for REGISTRY.",
        ("regpush logout registry.example.com",),
    ),
    "serve": CommandEntry(
        _REGISTRY,
        "Run a registry for development on this machine, until Ctrl-C.",
        ("regpush serve --port 5000 --dir ./registry",),
    ),
    "init": CommandEntry(
        _PIPELINE,
        "Write a commented regpush.toml, guessed from the files in this directory.",
        ("regpush init",),
    ),
    "config": CommandEntry(
        _PIPELINE,
        "Show the settings of a push of APP, and the source of each.",
        ("regpush config",),
    ),
    "resolve": CommandEntry(
        _PIPELINE,
        "Push images referenced as regpush://NAME and print the manifests with digests.",
        ("regpush resolve -f k8s.yaml | kubectl apply -f -",),
    ),
    "help": CommandEntry(
        _PIPELINE,
        "Show the help of regpush, or of one command.",
        ("regpush help push",),
    ),
    "schema": CommandEntry(
        _PIPELINE,
        "Print the JSON Schema (draft 2020-12) of the reports of `--format json`.",
        ("regpush schema push > push.schema.json",),
    ),
}
"""All commands by name, in the order of the help. The function of a command is
`cli.commands.NAME.NAME`."""

_ELSEWHERE = {
    "ls": "tags",
    "list": "tags",
    "list-tags": "tags",
    "retag": "tag",
    "cp": "copy",
    "mirror": "copy",
    "show": "inspect",
    "manifest": "index",
    "validate": "verify",
}
"""Names of other tools' commands (crane, skopeo, regctl, docker), with regpush's name for each."""

EXAMPLES = (
    "regpush ./myapp --to registry.example.com/app",
    "regpush plan ./myapp --to registry.example.com/app",
    "regpush doctor registry.example.com/app",
    "regpush COMMAND --help",
)


def meant(word: str) -> str:
    """Return the command that `word` probably means; empty if none is likely.

    It is the command that other tools call `word`, or one with a similar name.
    """
    if word in _ELSEWHERE:
        return _ELSEWHERE[word]
    return similar(word, ENTRIES, cutoff=0.7)
