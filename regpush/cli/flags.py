"""The flags of a push, and their conversion from text, or `REGPUSH_*` variables, to options."""

import inspect
import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, get_args

import typer

from regpush.cli.access import ACCESS as _ACCESS
from regpush.cli.access import OUTPUT, AccessFlags, Voice
from regpush.cli.access import option as _option
from regpush.cli.command import MANY
from regpush.cli.target import IMAGE as _IMAGE
from regpush.cli.target import SOURCE as _SOURCE
from regpush.cli.target import STORES, TargetFlags, pairs
from regpush.errors import UsageError, printable
from regpush.events import Listener, strictly
from regpush.layering.strategies import STRATEGIES
from regpush.options import (
    AttachOptions,
    Compression,
    IfExists,
    LayerOptions,
    PushOptions,
    RegistryOptions,
    Reuse,
    Sbom,
)
from regpush.quantities import parse_size, parse_time

_REGISTRY, _LAYERS, _ATTACHED = "The registry", "Layers and reuse", "What is attached"


NO_BASE = "none"
"""The value of `--from` that selects an image without a base."""


def _strategies(incomplete: str) -> list[str]:
    """Return the values of `--layers` that begin with `incomplete`, for shell completion."""
    return [name for name in (*STRATEGIES, "file=") if name.startswith(incomplete)]


def _compressions(incomplete: str) -> list[str]:
    """Return the values of `--compression` that begin with `incomplete`, for shell completion."""
    known = ("gzip", "gzip:fast", "gzip:best", "zstd", "none")
    return [name for name in known if name.startswith(incomplete)]


class Format(StrEnum):
    """The format of a command's output on stdout."""

    TEXT = "text"
    JSON = "json"


class Progress(StrEnum):
    """How progress is shown on stderr: AUTO shows bars on a terminal and else lines, like PLAIN."""

    AUTO = "auto"
    PLAIN = "plain"
    NONE = "none"


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class SendingFlags(AccessFlags):
    """The flags of a command that sends: tags, transfers, report; and those of `AccessFlags`."""

    tag: Annotated[
        list[str],
        _option(
            _REGISTRY,
            "A tag to move to the image; repeatable. Default: the tag in REF, or latest.",
            "-t",
            "--tag",
        ),
    ] = field(default_factory=list)
    by_digest: Annotated[bool, _option(_REGISTRY, "Push without moving a tag.", "--by-digest")] = (
        False
    )
    replace_index: Annotated[
        bool,
        _option(
            _REGISTRY,
            "Move a tag to an image for one platform even if the tag names an index of several.",
            "--replace-index",
        ),
    ] = False
    if_exists: Annotated[
        IfExists,
        _option(_REGISTRY, "What to do with tags that exist: replace (default; move them), skip "
                "(do not move them), same (exit 6 unless they name the same image), or fail "
                "(exit 6).", "--if-exists"),
    ] = IfExists.REPLACE  # fmt: skip
    if_current: Annotated[
        str | None,
        _option(_REGISTRY, "Move tags only if they are new or name this digest; else exit 6.",
                "--if-current",
                metavar="DIGEST"),
    ] = None  # fmt: skip
    from_plain_http: Annotated[
        bool,
        _option(_ACCESS, "Use http instead of https for registries that are only read, such as "
                "a base's; loopback registries need no flag.",
                "--from-plain-http"),
    ] = False  # fmt: skip
    check: Annotated[
        bool,
        _option(
            _REGISTRY,
            "Check that the registry has every blob, even of an unchanged image.",
            "--check",
        ),
    ] = False
    retry_times: Annotated[
        int, _option(_REGISTRY, "Maximum retries of a failed request (4).", "--retry-times", min=0)
    ] = 4
    stall_timeout: Annotated[
        float,
        _option(_REGISTRY, "Seconds without progress after which a request fails (60).",
                "--stall-timeout", min=0.1),
    ] = 60.0  # fmt: skip
    jobs: Annotated[
        int,
        _option(
            _REGISTRY,
            "Number of layers to send at the same time (4).",
            "-j",
            "--jobs",
            min=1,
            max=64,
        ),
    ] = 4
    format: Annotated[
        Format, _option(OUTPUT, "Format of stdout: text (default) or json.", "--format")
    ] = Format.TEXT
    metadata_file: Annotated[
        str | None,
        _option(
            OUTPUT, "Also write the JSON report to this file.", "--metadata-file", metavar="FILE"
        ),
    ] = None
    digest_file: Annotated[
        str | None,
        _option(
            OUTPUT, "Also write the image's digest to this file.", "--digest-file", metavar="FILE"
        ),
    ] = None
    strict: Annotated[
        bool,
        _option(OUTPUT, "Treat warnings about the input as errors (exit 2), before any tag moves.",
                "--strict"),
    ] = False  # fmt: skip
    progress: Annotated[
        Progress,
        _option(
            OUTPUT,
            "Progress on stderr: auto (default; bars on a terminal, else lines), plain "
            "(lines), or none.",
            "--progress",
        ),
    ] = Progress.AUTO

    @property
    def sums_up(self) -> bool:
        """Whether to write a summary to stderr: not with -q or --progress none."""
        return self.progress is not Progress.NONE and self.voice is not Voice.QUIET

    def heard(self, notify: Listener) -> Listener:
        """Return `notify`; with --strict, a listener that raises UsageError for input warnings."""
        return strictly(notify) if self.strict else notify

    def sending(self, password: str | None) -> RegistryOptions:
        """Return the registry options that these flags set, with `password` as read from stdin."""
        return replace(
            self.access(password),
            from_plain_http=self.from_plain_http,
            tags=tuple(self.tag),
            by_digest=self.by_digest,
            replace_index=self.replace_index,
            if_exists=self.if_exists,
            if_current=self.if_current,
            check=self.check,
            retry_times=self.retry_times,
            jobs=self.jobs,
            stall_s=self.stall_timeout,
        )


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Flags(TargetFlags, SendingFlags):
    """All flags of a push, not yet parsed. The commands push, plan and resolve have these flags."""

    to: Annotated[
        str,
        _option(_REGISTRY, "Destination: registry/repository[:tag].", "--to", metavar="REF"),
    ]
    also_to: Annotated[
        list[str],
        _option(_REGISTRY, "Another destination for the same image; repeatable. A REF without a "
                "tag gets the tags of --to.", "--also-to", metavar="REF"),
    ] = field(default_factory=list)  # fmt: skip
    from_: Annotated[
        str | None,
        _option(_SOURCE, "Base image: its layers lie below those of the target, and its "
                "configuration is inherited; none for no base. Default: a base for some kinds of "
                "targets, such as python:, else none.",
                "--from", metavar="REF"),
    ] = None  # fmt: skip
    allow_secret: Annotated[
        list[str],
        _option(_SOURCE, "Push files that match PATTERN although they look like secrets; "
                "repeatable.",
                "--allow-secret", metavar="PATTERN"),
    ] = field(default_factory=list)  # fmt: skip
    layers: Annotated[
        str,
        _option(_LAYERS, "Layer strategy: stable (default), auto (learns from previous images), "
                "app-deps, size, popularity, origin, single, or file=layers.json.", "--layers",
                autocompletion=_strategies),
    ] = "stable"  # fmt: skip
    max_layers: Annotated[
        int, _option(_LAYERS, "Maximum number of layers, 1 to 127 (64).", "--max-layers")
    ] = 64
    compression: Annotated[
        str | None,
        _option(_LAYERS, "Compression of layers: gzip[:fast|best], zstd[:1-19] or none. Default: "
                "gzip; reused layers keep their compression. Equal files give equal digests on "
                "every machine; with zstd only if libzstd has the same version. gzip:fast is twice "
                "as fast, makes layers a tenth larger, and gives equal diff IDs only.",
                "--compression", autocompletion=_compressions),
    ] = None  # fmt: skip
    reuse: Annotated[
        Reuse,
        _option(
            _LAYERS,
            "Evidence for reusing a layer of the registry: recipe (default; annotations in the "
            "repository), content (packing the layer here gives its diff ID), or none (reuse no "
            "layer).",
            "--reuse",
        ),
    ] = Reuse.RECIPE
    reuse_from: Annotated[
        list[str],
        _option(_LAYERS, "Another image whose layers may be reused; repeatable.", "--reuse-from",
                metavar="REF"),
    ] = field(default_factory=list)  # fmt: skip
    layout_from: Annotated[
        list[str],
        _option(_LAYERS, "With --layers auto: learn only from the image DIGEST, to repeat an "
                "earlier plan; repeatable.", "--layout-from", metavar="DIGEST"),
    ] = field(default_factory=list)  # fmt: skip
    max_upload: Annotated[
        str | None,
        _option(_LAYERS, "Maximum bytes of layers to send, such as 50MB; a push that needs more "
                "sends nothing and exits with code 7.", "--max-upload", metavar="SIZE"),
    ] = None  # fmt: skip
    no_cache: Annotated[
        bool, _option(_LAYERS, "Do not use regpush's cache folder.", "--no-cache")
    ] = False
    env: Annotated[
        list[str],
        _option(
            _IMAGE,
            "An environment variable of the container; repeatable.",
            "-e",
            "--env",
            metavar="NAME=VALUE",
        ),
    ] = field(default_factory=list)
    label: Annotated[
        list[str],
        _option(
            _IMAGE,
            "A label in the image's config; repeatable.",
            "-l",
            "--label",
            metavar="KEY=VALUE",
        ),
    ] = field(default_factory=list)
    annotation: Annotated[
        list[str],
        _option(
            _IMAGE,
            "An annotation of the image's manifest and index; repeatable.",
            "-a",
            "--annotation",
            metavar="KEY=VALUE",
        ),
    ] = field(default_factory=list)
    entrypoint: Annotated[
        list[str],
        _option(_IMAGE, "Entry point, program and arguments: words, or a JSON list; repeatable. A "
                "path such as bin/app is relative to the target.", "--entrypoint", "--entry-point",
                metavar="WORDS"),
    ] = field(default_factory=list)  # fmt: skip
    entry_point_argument: Annotated[
        list[str],
        _option(_IMAGE, "One more argument of the entry point, not split into words; repeatable.",
                "-A", "--entry-point-argument", metavar="WORD"),
    ] = field(default_factory=list)  # fmt: skip
    cmd: Annotated[
        list[str],
        _option(
            _IMAGE,
            "Default arguments of the entry point: words, or a JSON list; repeatable.",
            "--cmd",
            metavar="WORDS",
        ),
    ] = field(default_factory=list)
    user: Annotated[
        str | None,
        _option(
            _IMAGE,
            "User of the container, or user:group; '' removes the base's user.",
            "-u",
            "--user",
        ),
    ] = None
    workdir: Annotated[
        str | None,
        _option(
            _IMAGE, "Working directory; '' removes the base's working directory.", "-w", "--workdir"
        ),
    ] = None
    expose: Annotated[
        list[str],
        _option(
            _IMAGE,
            "Port that the container listens on, such as 8080 or 53/udp; repeatable.",
            "--expose",
        ),
    ] = field(default_factory=list)
    volume: Annotated[
        list[str], _option(_IMAGE, "Path of a volume in the image; repeatable.", "--volume")
    ] = field(default_factory=list)
    stop_signal: Annotated[
        str, _option(_IMAGE, "Signal that stops a container, such as SIGTERM.", "--stop-signal")
    ] = ""
    platform: Annotated[
        list[str],
        _option(_IMAGE, "Platform of the image, such as linux/arm64. Several, repeated or "
                "separated by commas, are pushed under one index; {platform}, {os}, {arch} and "
                "{variant} in the target are replaced for each. Default: detected.", "--platform"),
    ] = field(default_factory=list)  # fmt: skip
    created: Annotated[
        str | None,
        _option(_IMAGE, "The image's creation date, such as 2026-11-29T10:00:00Z (RFC 3339), or "
                "seconds since 1970. Default: SOURCE_DATE_EPOCH, else 1970-01-01.", "--created",
                metavar="TIME"),
    ] = None  # fmt: skip
    sbom: Annotated[
        Sbom,
        _option(_ATTACHED, "Attach an SBOM: spdx, cyclonedx, or none (default).", "--sbom"),
    ] = Sbom.NONE  # fmt: skip
    provenance: Annotated[
        bool,
        _option(_ATTACHED, "Attach a statement of what the image was made from (SLSA provenance); "
                "implies --reuse content.", "--provenance"),
    ] = False  # fmt: skip
    sign: Annotated[
        bool,
        _option(
            _ATTACHED,
            "Sign the image with cosign before tags move; implies --reuse content.",
            "--sign",
        ),
    ] = False
    sign_key: Annotated[
        str | None,
        _option(_ATTACHED, "Sign with this key (cosign's --key). Default: keyless.",
                "--sign-key", metavar="KEY"),
    ] = None  # fmt: skip
    sign_identity: Annotated[
        str | None,
        _option(_ATTACHED, "Identity in keyless signatures: an unchanged image that has a "
                "signature of this identity is not signed again. Needs --sign-issuer. Default: "
                "the identity of the GitHub workflow or GitLab pipeline.", "--sign-identity"),
    ] = None  # fmt: skip
    sign_issuer: Annotated[
        str | None,
        _option(_ATTACHED, "OIDC issuer of --sign-identity, such as "
                "https://token.actions.githubusercontent.com.", "--sign-issuer", metavar="URL"),
    ] = None  # fmt: skip
    sign_option: Annotated[
        list[str],
        _option(_ATTACHED, "One more argument for 'cosign sign', such as "
                "--sign-option=--tlog-upload=false; repeatable.", "--sign-option",
                metavar="WORD"),
    ] = field(default_factory=list)  # fmt: skip
    sign_recursive: Annotated[
        bool,
        _option(_ATTACHED, "With --sign, sign each image of an index as well.",
                "--sign-recursive"),
    ] = False  # fmt: skip

    def options(self, password: str | None) -> PushOptions:
        """Return the options of a push that these flags set, with `password` as read from stdin.

        Raises UsageError, naming the flag, for a bad value.
        """
        return PushOptions(
            source=replace(
                self.source(),
                allow_secrets=tuple(self.allow_secret),
                own_state=tuple(filter(None, (self.metadata_file, self.digest_file))),
                base=None if self.from_ == NO_BASE else self.from_,
                bare=self.from_ == NO_BASE,
            ),
            layers=LayerOptions(
                strategy=self.layers,
                max_layers=self.max_layers,
                compression=Compression.parse(self.compression) if self.compression else None,
                reuse=self.reuse,
                reuse_from=tuple(self.reuse_from),
                layout_from=tuple(self.layout_from),
            ),
            image=replace(
                self.additions(),
                platforms=_listed(self.platform),
                created=None if self.created is None else parse_time(self.created),
                env=pairs("--env", self.env),
                labels=pairs("--label", self.label, "KEY=VALUE"),
                annotations=pairs("--annotation", self.annotation, "KEY=VALUE"),
                entrypoint=self._entrypoint(),
                cmd=_words("--cmd", self.cmd) if self.cmd else None,
                user=self.user,
                workdir=self.workdir,
                expose=tuple(self.expose),
                volumes=tuple(self.volume),
                stop_signal=self.stop_signal,
            ),
            registry=replace(
                self.sending(password),
                also_to=tuple(self.also_to),
                max_upload=None if self.max_upload is None else parse_size(self.max_upload),
            ),
            attach=AttachOptions(
                sbom=self.sbom,
                provenance=self.provenance,
                sign=self.sign or self.sign_recursive or self.sign_key is not None,
                sign_key=self.sign_key,
                sign_identity=self.sign_identity,
                sign_issuer=self.sign_issuer,
                sign_options=tuple(self.sign_option),
                sign_recursive=self.sign_recursive,
            ),
            cache=not self.no_cache,
            strict=self.strict,
        )

    def _entrypoint(self) -> tuple[str, ...] | None:
        words = _words("--entrypoint", self.entrypoint)
        if self.entry_point_argument and not words:
            raise UsageError("--entry-point-argument needs --entry-point")
        return (*words, *self.entry_point_argument) if self.entrypoint else None


def with_flags(run: Callable[..., None]) -> Callable[..., None]:
    """Decorate the function `run(flags, …)` of a command: typer calls it with a record of flags.

    The command gets a typer option for each field of the class of `flags`.
    """
    own = inspect.signature(run, eval_str=True)
    record = own.parameters["flags"].annotation
    hints = hints_of(record)
    others = [p for p in own.parameters.values() if p.name != "flags"]
    shared = [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default(one),
            annotation=hints[one.name],
        )
        for one in _fields(record)
    ]
    # The flags for Nix and Guix are last in the help, because most users need none of them.
    shared.sort(key=lambda one: one.annotation.__metadata__[0].rich_help_panel == STORES)
    if len(others) + len(shared) > MANY:
        others.append(_HELP_ALL)

    def command(**values: Any) -> None:
        values.pop(_HELP_ALL.name, None)
        said = {one.name: values.pop(one.name) for one in fields(record)}
        run(flags=record(**said), **values)

    command.flags = record  # type: ignore[attr-defined]  # read by `cli.group`

    command.__doc__ = run.__doc__
    command.__name__ = run.__name__
    command.__signature__ = own.replace(parameters=[*others, *shared])  # type: ignore[attr-defined]  # read by inspect.signature, as PEP 362 says
    return command


def _show_all(ctx: typer.Context, value: bool) -> None:
    """Show the help with all flags and exit: typer calls this before it reports missing flags."""
    if value and not ctx.resilient_parsing:
        command: Any = ctx.command
        command.format_whole_help(ctx, ctx.make_formatter())
        raise typer.Exit


_HELP_ALL = inspect.Parameter(
    "help_all",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool,
        typer.Option("--help-all", help="Show every flag.", is_eager=True, callback=_show_all),
    ],
)
"""The flag --help-all, for commands with more flags than `--help` shows."""


@cache
def hints_of(record: type) -> Mapping[str, Any]:
    """Return the type hints of a class of flags, by field; each contains its typer option."""
    bases = reversed(record.__mro__)
    return {n: h for base in bases for n, h in inspect.get_annotations(base, eval_str=True).items()}


def _fields(record: type) -> list[Field[Any]]:
    """Return the fields of a class of flags: its own before those of its base classes."""
    bases = record.__mro__[::-1]
    order = {n: depth for depth, base in enumerate(bases) for n in inspect.get_annotations(base)}
    return sorted(fields(record), key=lambda one: -order[one.name])


def default(one: Field[Any]) -> Any:
    """Return the default value of a flag; `inspect.Parameter.empty` for a required flag."""
    if one.default is not MISSING:
        return one.default
    return inspect.Parameter.empty if one.default_factory is MISSING else one.default_factory()


def from_environ(environ: Mapping[str, str], record: type) -> dict[str, Any]:
    """Return the values of set `REGPUSH_<FLAG>` variables, by field of the class of flags `record`.

    A variable of a repeatable flag holds one value in each line; its value is a list.
    """
    values: dict[str, Any] = {}
    for name, hint in hints_of(record).items():
        # The field of the flag --from is called `from_`, since `from` is a keyword of Python.
        text = environ.get(f"REGPUSH_{name.rstrip('_').upper()}")
        if text:
            lines = [line for line in text.split("\n") if line]
            values[name] = lines if get_args(hint)[0] == list[str] else text
    return values


def _listed(texts: list[str]) -> tuple[str, ...]:
    """Return the values of a flag that may be repeated or hold a list separated by commas."""
    return tuple(one.strip() for text in texts for one in text.split(",") if one.strip())


def _words(flag: str, texts: list[str]) -> tuple[str, ...]:
    words: list[str] = []
    for text in texts:
        try:
            parsed = json.loads(text) if text.startswith("[") else shlex.split(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"bad {flag} '{printable(text[:200])}': {error}") from error
        if not all(isinstance(word, str) for word in parsed):
            raise UsageError(f"bad {flag} '{printable(text)}': expected a JSON list of strings")
        words += parsed
    return tuple(words)
