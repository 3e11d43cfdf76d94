"""The records of a layer and of an image, and how they are read from and written as JSON. Pure.

OCI image-spec, config.md and manifest.md. An image is serialised once, when it is built: its digest
is that of these bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from regpush.digest import (
    CONFIGS,
    MANIFESTS,
    OCI_CONFIG,
    OCI_LAYERS,
    OCI_MANIFEST,
    Descriptor,
    Digest,
    canonical_json,
)
from regpush.errors import UsageError, VerificationError, printable
from regpush.image.inheritance import over, own_config, ports
from regpush.image.twins import repeated, uppermost
from regpush.options import ImageOptions
from regpush.platform import Platform, parse_platforms
from regpush.quantities import LAST_SECOND

_SIGNAL = (
    r"(SIG)?(ABRT|ALRM|BUS|CHLD|CLD|CONT|FPE|HUP|ILL|INT|IO|IOT|KILL|PIPE|POLL|PROF|PWR|QUIT|SEGV|"
    r"STKFLT|STOP|SYS|TERM|TRAP|TSTP|TTIN|TTOU|URG|USR1|USR2|VTALRM|WINCH|XCPU|XFSZ|"
    r"RTMIN(\+([1-9]|1[0-5]))?|RTMAX(-([1-9]|1[0-4]))?)|[1-9]|[1-5][0-9]|6[0-4]"
)
"""A signal of Linux (signal(7)), by its name or number: runtimes refuse to send any other."""

RECIPE = "dev.regpush.recipe"
"""Layer annotation: the recipe of the layer, a digest over its content (docs/internals/recipes.md,
What travels in an image)."""
SIZE = "dev.regpush.size"
"""Layer annotation: the size of the layer's uncompressed archive, in bytes."""
RECIPE_VERSION_KEY = "dev.regpush.recipe-version"
"""Manifest annotation: the version (`RECIPE_VERSION`) of all recipes in the image."""
LAYOUT = "dev.regpush.layout"
"""Config field: which items each layer holds and how often they changed, for the plan of the next
image (`history.layout`)."""
BASE_LAYERS = "dev.regpush.base-layers"
"""Manifest annotation: how many layers, counted from the lowest, come from the base."""
BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"
OWN = "dev.regpush.own"
"""Config field of an image on a base: its run configuration without the inherited part."""
LAYOUT_FROM = "dev.regpush.layout-from"
"""Manifest annotation: digests of the earlier manifests whose records the plan of the image
used."""


class Layer(Struct, frozen=True, kw_only=True):
    """A layer that a registry holds, or will hold.

    `uncompressed_size`: bytes, None where another tool's image does not state it. `items`: the
    paths of the items (packages, files) in the layer, empty if unknown. `recipe`: None for a layer
    of another tool.
    """

    descriptor: Descriptor
    diff_id: Digest
    uncompressed_size: int | None = None
    items: tuple[str, ...] = ()
    recipe: Digest | None = None

    @property
    def contents(self) -> tuple[str, ...]:
        """The paths in `items`; where there are none, the names of items that regpush generated."""
        return tuple(path for path in self.items if path.startswith("/")) or self.items


class Learned(Struct, frozen=True, kw_only=True):
    """The records that the strategy `auto` puts into an image for the plan of the next one.

    `layout` is the value of `LAYOUT`, `read` that of `LAYOUT_FROM`.
    """

    layout: Mapping[str, Any]
    read: tuple[Digest, ...]


class Ancestor(Struct, frozen=True, kw_only=True):
    """The base that the annotations of an image name; `name` is a reference."""

    name: str
    digest: Digest


class Image(Struct, frozen=True, kw_only=True):
    """An image: its layers, lowest first, and the bytes of its config and manifest.

    `base_layers`: how many of the layers come from a base, as far as the image states it.
    """

    layers: tuple[Layer, ...]
    config: bytes
    manifest: bytes
    descriptor: Descriptor
    recipe_version: int | None = None
    base_layers: int = 0

    @property
    def own_layers(self) -> tuple[Layer, ...]:
        """Return the layers above the base; all layers if the image has no base."""
        return self.layers[self.base_layers :]

    @property
    def ancestor(self) -> Ancestor | None:
        """The base that the annotations name.

        None unless they state both its name and its digest.
        """
        said = json.loads(self.manifest).get("annotations") or {}
        name, digest = said.get(BASE_NAME), said.get(BASE_DIGEST)
        if not isinstance(name, str):
            return None
        try:
            return Ancestor(name=name, digest=Digest.parse(digest))
        except VerificationError:
            return None

    @property
    def config_descriptor(self) -> Descriptor:
        """The descriptor of the config blob."""
        return Descriptor.of(self.config, json.loads(self.manifest)["config"]["mediaType"])

    @property
    def platform(self) -> Platform:
        """The platform that the config states."""
        platform = Platform.of_json(json.loads(self.config))
        if platform is None:
            raise VerificationError("the image config names no os and architecture")
        return platform

    @classmethod
    def parse(cls, manifest: bytes, config: bytes) -> Image:
        """Read an image from its bytes.

        Raises VerificationError where they are not the manifest and the config of one image.
        """
        head = parse_manifest(manifest)
        body = json_object(config, "image config")
        layers = [Descriptor.from_json(value) for value in json_list(head, "layers")]
        rootfs = body.get("rootfs")
        diff_ids = json_list(rootfs, "diff_ids") if isinstance(rootfs, Mapping) else []
        if len(layers) != len(diff_ids):
            raise VerificationError(
                f"the manifest has {len(layers)} layers but its config {len(diff_ids)} diff IDs"
            )
        if Platform.of_json(body) is None:
            raise VerificationError("the image config names no os and architecture")
        if not isinstance(body.get("config") or {}, Mapping):
            raise VerificationError("the image config has no valid 'config'")
        history = body.get("history") or []
        if not isinstance(history, list) or not all(isinstance(one, Mapping) for one in history):
            raise VerificationError("the image config's 'history' is not a list of JSON objects")
        said = head.get("annotations") or {}
        if not isinstance(said, Mapping):
            raise VerificationError("the manifest's 'annotations' is not a JSON object")
        below = _base_layers(said, len(layers))
        items = _items_of(history, len(layers), len(layers) - below)
        return cls(
            layers=tuple(
                _parse_layer(number, descriptor, Digest.parse(diff_id), paths)
                for number, (descriptor, diff_id, paths) in enumerate(
                    zip(layers, diff_ids, items, strict=True), start=1
                )
            ),
            config=config,
            manifest=manifest,
            descriptor=Descriptor.of(manifest, head.get("mediaType") or OCI_MANIFEST),
            recipe_version=_integer(said.get(RECIPE_VERSION_KEY)),
            base_layers=below,
        )


class Inherited(Struct, frozen=True, kw_only=True):
    """The part of a base that an image takes over; empty without a base.

    `layers` have no recipe, because only layers of the image itself state one. `history`: an entry
    for each layer, and entries of steps without a layer.
    """

    layers: tuple[Layer, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


class Base(Struct, frozen=True, kw_only=True):
    """A base image, whose layers and config another image inherits.

    `name`: the reference of the base, for messages and annotations. `image`: the base as read from
    its registry.
    """

    name: str
    image: Image

    def left_out(self, above: Sequence[Layer]) -> frozenset[int]:
        """Return the numbers, from 0, of the layers of this base that an image has itself.

        The image does not inherit them. `above`: the layers of the image itself. Only layers that
        regpush packed, which have a recipe, can be left out. Raises the errors of `repeated`.
        """
        image = self.image
        ours = all(layer.recipe for layer in image.own_layers)
        return repeated(
            [layer.diff_id for layer in image.layers],
            image.base_layers if ours else len(image.layers),
            {layer.diff_id for layer in above if layer.recipe},
            self.name,
        )

    def to_inherit(self, above: Sequence[Layer] = ()) -> Inherited:
        """Return the part of this base that an image with the layers `above` takes over.

        Raises the errors of `left_out`.
        """
        image, config = self.image, json.loads(self.image.config)
        left_out = self.left_out(above)
        kept = [layer for n, layer in enumerate(image.layers) if n not in left_out]
        history = config.get("history") or []
        told = sum(not entry.get("empty_layer") for entry in history)
        # Tools pair history entries with layers, so layers without an entry get one.
        unsaid = [{"created_by": "unknown"}] * (len(image.layers) - told)
        return Inherited(
            layers=tuple(map(_as_base, kept)),
            config=config.get("config") or {},
            history=_without([*unsaid, *history], left_out),
            platform=image.platform,
            annotations={
                BASE_NAME: self.name,
                BASE_DIGEST: str(image.descriptor.digest),
                BASE_LAYERS: str(len(kept)),
            },
        )


def _without(
    history: Sequence[Mapping[str, Any]], left_out: Collection[int]
) -> tuple[Mapping[str, Any], ...]:
    """Return the entries of `history` without those of the layers that are `left_out`."""
    count = -1
    kept = []
    for entry in history:
        count += not entry.get("empty_layer")
        if entry.get("empty_layer") or count not in left_out:
            kept.append(entry)
    return tuple(kept)


def _as_base(layer: Layer) -> Layer:
    """Return `layer` as a manifest of regpush lists a base's layer: without its recipe.

    A recipe is trusted because its author may push to the repository. The author of a base may not.
    """
    descriptor = layer.descriptor
    kept = tuple(pair for pair in descriptor.annotations if pair[0] != RECIPE)
    media_type = OCI_LAYERS.get(descriptor.media_type, descriptor.media_type)
    return replace(
        layer,
        descriptor=replace(descriptor, media_type=media_type, annotations=kept),
        recipe=None,
    )


def parse_manifest(manifest: bytes) -> dict[str, Any]:
    """Read the manifest of an image. Raises VerificationError for any other document."""
    head = json_object(manifest, "manifest")
    media_type = head.get("mediaType", OCI_MANIFEST)
    if media_type not in MANIFESTS or head.get("schemaVersion") != 2:
        raise VerificationError(f"not an image manifest: {printable(str(media_type))[:100]}")
    if Descriptor.from_json(head.get("config")).media_type not in CONFIGS:
        raise VerificationError("not an image but another artifact, by the type of its config")
    return head


def is_artifact(manifest: bytes) -> bool:
    """Whether `manifest` describes something other than an image, by the media type of its config.

    Raises VerificationError for anything but a JSON object.
    """
    config = json_object(manifest, "manifest").get("config")
    kind = config.get("mediaType") if isinstance(config, Mapping) else None
    return isinstance(kind, str) and kind not in CONFIGS


def annotations_of(options: ImageOptions) -> dict[str, str]:
    """Return the annotations in `options`, and the creation time if `options` state one."""
    annotations = dict(options.annotations)
    if options.created is not None:
        created = _timestamp(options.created)
        annotations.setdefault("org.opencontainers.image.created", created)
    return annotations


def check_options(options: ImageOptions) -> None:
    """Raise UsageError for values of `options` that no image can express.

    Reads and sends nothing.
    """
    for port in options.expose:
        ports(port)
    for volume in options.volumes:
        if not volume.startswith("/"):
            raise UsageError(f"bad volume '{printable(volume)}': it must be an absolute path")
    if options.workdir and not options.workdir.startswith("/"):
        raise UsageError(
            f"bad working directory '{printable(options.workdir)}': it must be an absolute path"
        )
    if options.stop_signal and not re.fullmatch(_SIGNAL, options.stop_signal):
        raise UsageError(
            f"bad stop signal '{printable(options.stop_signal)}': expected one such as SIGTERM"
        )
    parse_platforms(options.platforms)
    if options.created is not None and not 0 <= options.created <= LAST_SECOND:
        raise UsageError(
            f"bad creation time {options.created}: expected seconds since 1970, up to the year 9999"
        )
    texts = (*(options.entrypoint or ()), *(options.cmd or ()), *options.volumes)
    texts = (*texts, options.user or "", options.workdir or "")
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
    base: Base | None = None,
    learned: Learned | None = None,
) -> Image:
    """Make the image of `layers`, lowest first, on the layers of `base`.

    The run configuration inherits from the base like in `docker build`, and `options` take
    precedence: variables and labels one by one, ports and volumes joined; an entry point in
    `options` drops the command of the base, and the build triggers of the base are dropped. Equal
    arguments give equal bytes. Empty and repeated layers are left out (`twins`). Raises UsageError
    where a repeated layer cannot be left out.
    """
    layers = [layers[number] for number in uppermost([one.diff_id for one in layers])]
    created = _timestamp(1 if options.created is None else options.created)
    history = [
        {"created": created, "created_by": "regpush", "comment": json.dumps(list(layer.items))}
        for layer in layers
    ]
    below = base.to_inherit(layers) if base else Inherited()
    own = own_config(options, below.config)
    config = {
        "created": created,
        **(platform.over(below.platform) if below.platform else platform).to_json(),
        "config": over(own, below.config),
        "history": [*below.history, *history],
        **({OWN: own} if base else {}),
        **({LAYOUT: learned.layout} if learned else {}),
    }
    annotations = {RECIPE_VERSION_KEY: str(recipe_version)}
    if learned and learned.read:
        annotations[LAYOUT_FROM] = " ".join(map(str, learned.read))
    annotations |= {**annotations_of(options), **below.annotations}
    return put_together((*below.layers, *layers), config, annotations)


def put_together(
    layers: Sequence[Layer], config: Mapping[str, Any], annotations: Mapping[str, str]
) -> Image:
    """Make the image of `layers`, lowest first, from a config without `rootfs`, which is added.

    Equal arguments give equal bytes.
    """
    diff_ids = [str(layer.diff_id) for layer in layers]
    data = canonical_json({**config, "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": Descriptor.of(data, OCI_CONFIG).to_json(),
            "layers": [layer.descriptor.to_json() for layer in layers],
            "annotations": dict(annotations),
        }
    )
    return Image(
        layers=tuple(layers),
        config=data,
        manifest=manifest,
        descriptor=Descriptor.of(manifest, OCI_MANIFEST),
        recipe_version=_integer(annotations.get(RECIPE_VERSION_KEY)),
        base_layers=_base_layers(annotations, len(layers)),
    )


def _timestamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def json_object(data: bytes, what: str) -> dict[str, Any]:
    """Read the JSON object in `data`. Raises VerificationError, whose message calls it `what`."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise VerificationError(f"the {what} is not JSON") from error
    if not isinstance(value, dict):
        raise VerificationError(f"the {what} is not a JSON object")
    return value


def json_list(value: Mapping[str, Any], key: str) -> list[Any]:
    """Return the list under `key` in `value`. Raises VerificationError for any other value."""
    found = value.get(key)
    if not isinstance(found, list):
        raise VerificationError(f"'{key}' is not a JSON list")
    return found


def _integer(text: object) -> int | None:
    matched = isinstance(text, str) and re.fullmatch(r"[0-9]{1,18}", text, re.ASCII)
    return int(str(text)) if matched else None


def _base_layers(annotations: Mapping[str, Any], layers: int) -> int:
    return min(_integer(annotations.get(BASE_LAYERS)) or 0, layers)


def _parse_layer(
    number: int, descriptor: Descriptor, diff_id: Digest, items: tuple[str, ...]
) -> Layer:
    recipe = descriptor.annotation(RECIPE)
    try:
        parsed = Digest.parse(recipe) if recipe else None
    except VerificationError as error:
        raise VerificationError(
            f"layer {number} ({descriptor.digest}): its annotation {RECIPE} is {error}"
        ) from error
    return Layer(
        descriptor=descriptor,
        diff_id=diff_id,
        uncompressed_size=_integer(descriptor.annotation(SIZE)),
        items=items,
        recipe=parsed,
    )


def _items_of(history: Sequence[Mapping[str, Any]], layers: int, own: int) -> list[tuple[str, ...]]:
    """Return the item paths of each layer, from the comments of regpush's history entries.

    Empty for a layer whose items are not known. If the number of history entries is not the number
    of layers, as with some base images, only the items of the `own` topmost layers, which regpush
    made, are returned.
    """
    entries = [entry for entry in history if not entry.get("empty_layer")]
    told = layers if len(entries) == layers else own
    if told == layers != len(entries) or len(entries) < told:
        return [()] * layers
    comments = [entry.get("comment") for entry in entries[len(entries) - told :]]
    return [*[()] * (layers - told), *map(_items_in, comments)]


def _items_in(comment: object) -> tuple[str, ...]:
    try:
        paths = json.loads(comment) if isinstance(comment, str) else []
    except (ValueError, RecursionError):
        return ()
    return tuple(p for p in paths if isinstance(p, str)) if isinstance(paths, list) else ()
