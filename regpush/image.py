"""The two records a push is about, the layer and the image, and their JSON.

Pure: nothing here reads or sends. OCI image-spec, config.md and manifest.md. Bytes are
serialised once, when an image is built, and never again: a digest is of those bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from regpush.digest import (
    CONFIGS,
    MANIFESTS,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Digest,
)
from regpush.errors import UsageError, VerificationError, printable
from regpush.options import ImageOptions
from regpush.platform import Platform, parse_platforms

RECIPE = "dev.regpush.recipe"
"""Layer annotation: what is in the layer (design.md, What travels in an image)."""
SIZE = "dev.regpush.size"
"""Layer annotation: uncompressed bytes."""
RECIPE_VERSION = "dev.regpush.recipe-version"
"""Manifest annotation: the version that all recipes of the image were computed by."""
LAYOUT = "dev.regpush.layout"
"""Config field: what the image remembers for the plan of the next (`layout`)."""
LAYOUT_FROM = "dev.regpush.layout-from"
"""Manifest annotation: digests of the manifests that the plan of the image looked at."""

_LAST_SECOND = 253402300799  # of the year 9999, the last that RFC 3339 can write


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer that stands in a registry, or will.

    `uncompressed_size` in bytes, None where a foreign image does not say. `items`: paths of
    what is in it, empty where nobody said. `recipe`: None for a layer of another tool.
    """

    descriptor: Descriptor
    diff_id: Digest
    uncompressed_size: int | None = None
    items: tuple[str, ...] = ()
    recipe: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What a strategy that learns leaves in an image: see `LAYOUT` and `LAYOUT_FROM`."""

    layout: Mapping[str, Any]
    read: tuple[Digest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image: its layers, bottom first, and the very bytes of its config and manifest."""

    layers: tuple[Layer, ...]
    config: bytes
    manifest: bytes
    descriptor: Descriptor
    recipe_version: int | None = None

    @property
    def config_descriptor(self) -> Descriptor:
        """The descriptor of the config blob."""
        return Descriptor.of(self.config, json.loads(self.manifest)["config"]["mediaType"])

    @property
    def platform(self) -> Platform:
        """What the config says it runs on."""
        config = json.loads(self.config)
        return Platform(config["os"], config["architecture"], config.get("variant", ""))

    @classmethod
    def parse(cls, manifest: bytes, config: bytes) -> Image:
        """Read an image from its bytes.

        Raises VerificationError where these are not the manifest and config of one image.
        """
        head = parse_manifest(manifest)
        body = _object(config, "image config")
        layers = [Descriptor.from_json(value) for value in _list(head, "layers")]
        rootfs = body.get("rootfs")
        diff_ids = _list(rootfs, "diff_ids") if isinstance(rootfs, Mapping) else []
        if len(layers) != len(diff_ids):
            raise VerificationError(
                f"the manifest has {len(layers)} layers but its config {len(diff_ids)} diff IDs"
            )
        where = [body.get("os"), body.get("architecture"), body.get("variant", "")]
        if not all(isinstance(part, str) for part in where):
            raise VerificationError("the image config names no platform")
        if not isinstance(body.get("config") or {}, Mapping):
            raise VerificationError("the image config has no valid 'config'")
        annotations = head.get("annotations") or {}
        version = annotations.get(RECIPE_VERSION) if isinstance(annotations, Mapping) else None
        return cls(
            layers=tuple(
                _parse_layer(descriptor, Digest.parse(diff_id), items)
                for descriptor, diff_id, items in zip(
                    layers, diff_ids, _items_of(body.get("history"), len(layers)), strict=True
                )
            ),
            config=config,
            manifest=manifest,
            descriptor=Descriptor.of(manifest, head.get("mediaType") or OCI_MANIFEST),
            recipe_version=_integer(version),
        )


def parse_manifest(manifest: bytes) -> dict[str, Any]:
    """Read the manifest of an image. Raises VerificationError for any other document."""
    head = _object(manifest, "manifest")
    media_type = head.get("mediaType", OCI_MANIFEST)
    if media_type not in MANIFESTS or head.get("schemaVersion") != 2:
        raise VerificationError(f"not an image manifest: {printable(str(media_type))[:100]}")
    if Descriptor.from_json(head.get("config")).media_type not in CONFIGS:
        raise VerificationError("not an image but another artifact, by the type of its config")
    return head


def build_index(children: Sequence[tuple[Platform, Descriptor]], options: ImageOptions) -> bytes:
    """An index of `children`, in their order. Equal arguments give equal bytes.

    OCI image-spec, image-index.md. It has the annotations of the images.
    """
    annotations = _annotations(options)
    return _canonical(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                {**replace(child, annotations=()).to_json(), "platform": _platform(where)}
                for where, child in children
            ],
            **({"annotations": annotations} if annotations else {}),
        }
    )


def _annotations(options: ImageOptions) -> dict[str, str]:
    """Those the user asked for, and when it was made if somebody said so."""
    annotations = dict(options.annotations)
    if options.created is not None:
        created = _timestamp(options.created)
        annotations.setdefault("org.opencontainers.image.created", created)
    return annotations


def _platform(platform: Platform) -> dict[str, str]:
    variant = {"variant": platform.variant} if platform.variant else {}
    return {"os": platform.os, "architecture": platform.architecture, **variant}


def children(index: bytes) -> list[tuple[Platform, Descriptor]]:
    """The images of an index and what each runs on. Raises VerificationError.

    Attestations and whatever else names no platform are passed over.
    """
    found = []
    for value in _list(_object(index, "index"), "manifests"):
        child = Descriptor.from_json(value)
        where = value.get("platform")
        if child.media_type not in MANIFESTS or not isinstance(where, Mapping):
            continue
        parts = [where.get("os"), where.get("architecture"), where.get("variant", "")]
        said = [part for part in parts if isinstance(part, str)]
        if len(said) == len(parts) and said[0] != "unknown":
            found.append((Platform(*said), child))
    return found


def child_for(index: bytes, platform: Platform) -> Descriptor | None:
    """The manifest for `platform` in an index; an exact variant first, then any."""
    fitting = [
        (where.variant != platform.variant, child)
        for where, child in children(index)
        if where.runs(platform)
    ]
    return min(fitting, key=lambda pair: pair[0])[1] if fitting else None


def check_options(options: ImageOptions) -> None:
    """Raise UsageError for what no image can say; before anything is read or sent."""
    for port in options.expose:
        _ports(port)
    for volume in options.volumes:
        if not volume.startswith("/"):
            raise UsageError(f"bad volume '{printable(volume)}': it must be an absolute path")
    if options.workdir and not options.workdir.startswith("/"):
        raise UsageError(
            f"bad working directory '{printable(options.workdir)}': it must be an absolute path"
        )
    if options.stop_signal and not re.fullmatch(
        r"(SIG)?[A-Z]+[0-9+-]*|[0-9]{1,2}", options.stop_signal
    ):
        raise UsageError(f"bad stop signal '{printable(options.stop_signal)}': such as SIGTERM")
    parse_platforms(options.platforms)
    if options.created is not None and not 0 <= options.created <= _LAST_SECOND:
        raise UsageError(f"bad creation time {options.created}: seconds from 1970 to 9999")
    texts = (*options.entrypoint, *options.cmd, *options.volumes, options.user, options.workdir)
    pairs = (*options.env, *options.labels, *options.annotations)
    for text in (*texts, *(part for pair in pairs for part in pair)):
        if not _is_unicode(text):
            raise UsageError(f"'{printable(text)}' is not UTF-8, which an image's JSON must be")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def build(
    layers: Sequence[Layer],
    options: ImageOptions,
    platform: Platform,
    *,
    recipe_version: int,
    base: Image | None = None,
    learned: Learned | None = None,
) -> Image:
    """Put an image together: `layers`, bottom first, on those of `base`.

    Configuration is inherited from `base` as `docker build` does, ours winning: variables and
    labels one by one, ports and volumes joined; an entry point of ours drops the base's
    command. Equal arguments give equal bytes.
    """
    inherited: dict[str, Any] = json.loads(base.config) if base else {}
    created = _timestamp(1 if options.created is None else options.created)
    history = [
        {"created": created, "created_by": "regpush", "comment": json.dumps(list(layer.items))}
        for layer in layers
    ]
    below = base.layers if base else ()
    config = _canonical(
        {
            "created": created,
            **_platform(platform),
            "config": _run_config(options, inherited.get("config") or {}),
            "rootfs": {
                "type": "layers",
                "diff_ids": [str(layer.diff_id) for layer in (*below, *layers)],
            },
            "history": [*(inherited.get("history") or []), *history],
            **({LAYOUT: learned.layout} if learned else {}),
        }
    )
    annotations = {RECIPE_VERSION: str(recipe_version)}
    if learned and learned.read:
        annotations[LAYOUT_FROM] = " ".join(map(str, learned.read))
    annotations |= _annotations(options)
    manifest = _canonical(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": Descriptor.of(config, OCI_CONFIG).to_json(),
            "layers": [layer.descriptor.to_json() for layer in (*below, *layers)],
            "annotations": annotations,
        }
    )
    return Image(
        layers=(*below, *layers),
        config=config,
        manifest=manifest,
        descriptor=Descriptor.of(manifest, OCI_MANIFEST),
        recipe_version=recipe_version,
    )


def _run_config(options: ImageOptions, inherited: Mapping[str, Any]) -> dict[str, Any]:
    config = dict(inherited)
    env = dict(variable.partition("=")[::2] for variable in inherited.get("Env") or [])
    env |= dict(options.env)
    if env:
        config["Env"] = [f"{name}={value}" for name, value in env.items()]
    for key, new in (
        ("Labels", dict(options.labels)),
        ("ExposedPorts", {port: {} for text in options.expose for port in _ports(text)}),
        ("Volumes", {volume: {} for volume in options.volumes}),
    ):
        if new:
            config[key] = {**(inherited.get(key) or {}), **new}
    if options.entrypoint:
        config["Entrypoint"] = list(options.entrypoint)
        config.pop("Cmd", None)
    if options.cmd:
        config["Cmd"] = list(options.cmd)
    said = {
        "User": options.user,
        "WorkingDir": options.workdir,
        "StopSignal": options.stop_signal,
    }
    return config | {key: value for key, value in said.items() if value}


def _ports(text: str) -> list[str]:
    """`8080`, `53/udp` or `8000-8003` as config.md writes ports. Raises UsageError."""
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", text, re.ASCII)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if match is None or not 0 < first <= last < 65536:
        raise UsageError(f"bad port '{printable(text)}': such as 8080, 53/udp or 8000-8003")
    return [f"{port}/{match[3] or 'tcp'}" for port in range(first, last + 1)]


def _timestamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise VerificationError(f"the {what} is not JSON") from error
    if not isinstance(value, dict):
        raise VerificationError(f"the {what} is not a JSON object")
    return value


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    if not isinstance(found, list):
        raise VerificationError(f"'{key}' is not a JSON list")
    return found


def _integer(text: object) -> int | None:
    matched = isinstance(text, str) and re.fullmatch(r"[0-9]{1,18}", text, re.ASCII)
    return int(str(text)) if matched else None


def _parse_layer(descriptor: Descriptor, diff_id: Digest, items: tuple[str, ...]) -> Layer:
    recipe = descriptor.annotation(RECIPE)
    return Layer(
        descriptor=descriptor,
        diff_id=diff_id,
        uncompressed_size=_integer(descriptor.annotation(SIZE)),
        items=items,
        recipe=Digest.parse(recipe) if recipe else None,
    )


def _items_of(history: object, layers: int) -> list[tuple[str, ...]]:
    """Item paths of each layer by the comments of the history, where these are ours."""
    entries = [
        entry
        for entry in (history if isinstance(history, list) else [])
        if isinstance(entry, Mapping) and not entry.get("empty_layer")
    ]
    if len(entries) != layers:
        return [()] * layers
    return [_items_in(entry.get("comment")) for entry in entries]


def _items_in(comment: object) -> tuple[str, ...]:
    try:
        paths = json.loads(comment) if isinstance(comment, str) else []
    except (ValueError, RecursionError):
        return ()
    return tuple(p for p in paths if isinstance(p, str)) if isinstance(paths, list) else ()
