"""`regpush resolve`: push the images that Kubernetes manifests name, and insert their digests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from msgspec import Struct

from regpush.cli.access import option
from regpush.cli.configured import Said, flags_of
from regpush.cli.console import print_bytes, read_password, tell
from regpush.cli.flags import Flags, Format, with_flags
from regpush.cli.keys import settings
from regpush.cli.pushing import push_and_sum_up
from regpush.errors import UsageError, printable
from regpush.project.configuration import Configuration
from regpush.project.kubernetes import SCHEME, Mention, find, replace

_ENDINGS = (".yaml", ".yml", ".json")
_STDIN = "-"


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class ResolveFlags(Flags):
    """The flags of `push`, which apply to all images; `--to` is only a prefix of destinations."""

    to: Annotated[
        str,
        option("The registry", "Prefix of the destination, such as registry.example.com/team, for "
               "each NAME without a `to` in the configuration: /NAME is appended.", "--to",
               metavar="PREFIX"),
    ] = ""  # fmt: skip


class ManifestFile(Struct, frozen=True, kw_only=True):
    """A Kubernetes manifest, from a file or stdin.

    `name`: for messages. `mentions`: the references `regpush://NAME` in `text`.
    """

    name: str
    text: str
    mentions: tuple[Mention, ...]


@with_flags
def resolve(
    ctx: typer.Context,
    flags: ResolveFlags,
    filename: Annotated[
        list[str],
        typer.Option("-f", "--filename", metavar="FILE", show_default=False,
                     help="A Kubernetes manifest, a directory of manifests, or - for stdin; "
                     "repeatable."),
    ],
    recursive: Annotated[
        bool,
        typer.Option("-R", "--recursive", help="Also read the directories below a given one."),
    ] = False,
) -> None:  # fmt: skip
    """Push images referenced as regpush://NAME and print the manifests with digests.

    NAME is an app of the configuration, or a path that begins with ./, ../ or /. Nothing is
    printed unless everything was pushed.
    """
    if flags.format is not Format.TEXT:
        raise UsageError(f"resolve prints manifests and has no --format {flags.format}")
    if flags.password_stdin and _STDIN in filename:
        raise UsageError(
            "stdin cannot be both the manifest and the password; name the manifest's file"
        )
    manifests = [_read(path) for path in _files(filename, recursive)]
    pushes = _pushes(ctx, flags.to, manifests)
    if len(pushes) > 1 and (flags.metadata_file or flags.digest_file):
        raise UsageError(
            "--metadata-file and --digest-file can describe one image only, but the manifests "
            "reference several"
        )
    password = read_password(flags.username, flags.password_stdin)
    images = {
        name: push_and_sum_up(targets, own, password).ref for name, (targets, own) in pushes.items()
    }
    if not pushes and flags.sums_up:
        tell("note: no regpush:// reference; the manifests are unchanged")
    print_bytes(_joined(manifests, images).encode())


def _files(paths: Sequence[str], recursive: bool) -> Iterator[str]:
    """Yield the paths of the manifests to read: `paths`, with the files in each directory.

    Raises UsageError for a directory without manifests.
    """
    for path in paths:
        if path == _STDIN or not os.path.isdir(path):
            yield path
            continue
        found = False
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                if name.endswith(_ENDINGS):
                    found = True
                    yield os.path.join(folder, name)
            if not recursive:
                break
        if not found:
            deeper = "" if recursive else "; -R also reads the directories below"
            raise UsageError(f"{printable(path)} has no .yaml, .yml or .json file{deeper}")


def _read(path: str) -> ManifestFile:
    name = "stdin" if path == _STDIN else printable(path)
    try:
        if path == _STDIN:
            text = sys.stdin.buffer.read().decode("utf-8-sig")
        else:
            with open(path, "rb") as file:
                text = file.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"cannot read {name}: {reason}") from error
    return ManifestFile(name=name, text=text, mentions=find(text, name))


def _pushes(
    ctx: typer.Context, prefix: str, manifests: Sequence[ManifestFile]
) -> dict[str, tuple[list[str], Flags]]:
    """Return the targets and flags of each push, by the NAME in `regpush://NAME`.

    Raises UsageError, naming manifest, line and NAME, for a NAME that cannot be pushed.
    """
    said: Said = ctx.obj
    pushes: dict[str, tuple[list[str], Flags]] = {}
    places: dict[str, str] = {}
    for manifest in manifests:
        for mention in manifest.mentions:
            for name in map(_plain, mention.names):
                if name in pushes:
                    continue
                try:
                    to = _destination(name, prefix, said.configuration)
                    if places.setdefault(to, name) != name and _is_path(name):
                        raise UsageError(
                            f"{places[to]} would be pushed to {to} as well; rename one of them"
                        )
                    pushes[name] = flags_of(ctx, name, to)
                except UsageError as error:
                    raise UsageError(
                        f"{manifest.name}:{mention.line}: {SCHEME}{printable(name)}: {error}"
                    ) from error
    return pushes


def _plain(name: str) -> str:
    """Return `name`, and if it is a path, in one spelling: `./a/../b` becomes `./b`."""
    if not _is_path(name):
        return name
    path = os.path.normpath(name)
    return path if _is_path(path) else f"./{path}"


def _is_path(name: str) -> bool:
    return name in (".", "..") or name.startswith(("./", "../", "/"))


def _destination(name: str, prefix: str, configuration: Configuration | None) -> str:
    """Return the destination of the push of `name`, an app or a path.

    It is the app's `to` in the configuration, else `prefix/NAME`. Raises UsageError for an unknown
    app, or if there is neither a `to` nor a prefix.
    """
    if not _is_path(name):
        if configuration is None:
            raise UsageError("no regpush.toml names this app; a path must begin with ./")
        configuration.app(name)
        own = settings(configuration, name).get("to")
        if own:
            return str(own.value)
    if not prefix:
        raise UsageError("no destination is configured: give --to registry/prefix")
    return f"{prefix.rstrip('/')}/{os.path.basename(os.path.abspath(name))}"


def _joined(manifests: Sequence[ManifestFile], images: Mapping[str, str]) -> str:
    """Return all manifests as one stream of YAML documents, with references replaced by `images`.

    Nothing else of a single manifest changes.
    """
    stream = ""
    for manifest in manifests:
        if stream and not stream.endswith("\n"):
            stream += "\n"
        if stream and not manifest.text.startswith("---"):
            stream += "---\n"
        named = {name: images[_plain(name)] for one in manifest.mentions for name in one.names}
        stream += replace(manifest.text, manifest.mentions, named)
    return stream
