"""The result of a push or a plan, and its JSON (docs/reference/report.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from regpush.digest import Digest
from regpush.errors import BudgetExceededError
from regpush.events import Action


class Tense(Enum):
    """Whether a report describes what was done or what would be done."""

    DONE = "done"
    PLANNED = "planned"

    def word(self, action: Action) -> str:
        """Return the word for `action` in a report: `uploaded` for a push, `upload` for a plan."""
        return action.value if self is Tense.DONE else _PLANNED[action]


_PLANNED = {Action.UPLOADED: "upload", Action.REUSED: "reuse", Action.MOUNTED: "mount"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReport:
    """The report of one layer; `size` is bytes as transferred.

    `digest`: None where the layer was not packed; then `size` is an estimate. `copies`: the number
    of destinations for which `action` was taken.
    """

    label: str
    items: tuple[str, ...]
    media_type: str
    size: int
    digest: Digest | None
    diff_id: Digest | None
    uncompressed_size: int | None
    recipe: Digest | None
    action: Action
    why: str
    copies: int = 1

    def to_json(self, tense: Tense) -> dict[str, Any]:
        """Return one element of `layers` in the JSON report."""
        value: dict[str, Any] = {
            "label": self.label,
            "digest": _text(self.digest),
            "media_type": self.media_type,
            "size": self.size,
            "diff_id": _text(self.diff_id),
            "uncompressed_size": self.uncompressed_size,
            "recipe": _text(self.recipe),
            "items": list(self.items),
            "action": tense.word(self.action),
            "why": self.why,
        }
        if self.digest is None:
            value["size_is_estimate"] = True
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseReport:
    """The report of an image's base: `name` is a reference, `digest` the digest that it led to."""

    name: str
    digest: Digest
    layers: tuple[LayerReport, ...]

    def to_json(self, tense: Tense) -> dict[str, Any]:
        """Return the `base` object of the JSON report."""
        return {
            "name": self.name,
            "digest": str(self.digest),
            "layers": [layer.to_json(tense) for layer in self.layers],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReport:
    """The report of the image of one platform: its layers without those of `base`, lowest first.

    `digest` is None for a plan that packed nothing. `steps`: sentences about the data that the plan
    of the layers used. `layout_from`: digests of the earlier manifests that this plan was made
    from.
    """

    platform: str
    digest: Digest | None
    layers: tuple[LayerReport, ...]
    steps: tuple[str, ...] = ()
    layout_from: tuple[Digest, ...] = ()
    base: BaseReport | None = None

    def to_json(self, tense: Tense) -> dict[str, Any]:
        """Return one element of `images` in the JSON report."""
        return {
            "platform": self.platform,
            "digest": _text(self.digest),
            "layers": [layer.to_json(tense) for layer in self.layers],
            **({"base": self.base.to_json(tense)} if self.base else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationReport:
    """The report of one repository that was pushed to; `image` is `registry/repository`.

    `tags` all name `digest` now; `moved` are the tags among them that did not name it before.
    """

    image: str
    tags: tuple[str, ...]
    digest: Digest | None
    moved: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """The reference `registry/repository@digest`, which a deployment should use."""
        return f"{self.image}@{self.digest}"

    def to_json(self) -> dict[str, Any]:
        """Return one element of `destinations` in the JSON report."""
        return {
            "image": self.image,
            "tags": list(self.tags),
            "moved": list(self.moved),
            "digest": _text(self.digest),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PushResult:
    """The outcome of a push or a plan.

    `destinations`: the one given as `to` first. `images`: one for each platform, in the order of
    the request; empty where no image had to be made. `media_type`: that of the manifest that the
    tags name, an index for several platforms. `changed`: False if all tags named this manifest
    before. Sizes are of layers as transferred; `uploaded_bytes` counts config, manifests and
    repeated attempts too: all bodies that crossed the network.
    """

    destinations: tuple[DestinationReport, ...]
    images: tuple[ImageReport, ...]
    media_type: str
    changed: bool
    uploaded_bytes: int
    requests: int
    seconds: float
    tense: Tense = Tense.DONE

    @property
    def image(self) -> str:
        """`registry/repository` of the first destination."""
        return self.destinations[0].image

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of the first destination, all of which name `digest`."""
        return self.destinations[0].tags

    @property
    def moved(self) -> tuple[str, ...]:
        """The tags of the first destination that did not name `digest` before the push."""
        return self.destinations[0].moved

    @property
    def digest(self) -> Digest | None:
        """The digest that the tags name, or would name after a push.

        None for a plan that packed nothing.
        """
        return self.destinations[0].digest

    @property
    def ref(self) -> str:
        """The reference `registry/repository@digest`, which a deployment should use."""
        return self.destinations[0].ref

    @property
    def layers(self) -> tuple[LayerReport, ...]:
        """The layers of all images, one image after the other, without those of bases."""
        return tuple(layer for image in self.images for layer in image.layers)

    @property
    def layers_of_bases(self) -> tuple[LayerReport, ...]:
        """The layers of all base images, in the order of the platforms."""
        return tuple(layer for image in self.images if image.base for layer in image.base.layers)

    def bytes_of(self, action: Action) -> int:
        """Return the bytes of all layers with the given `action`.

        Layers of bases are included, and a layer counts once for each destination.
        """
        every = (*self.layers, *self.layers_of_bases)
        return sum(layer.size * layer.copies for layer in every if layer.action is action)

    def to_json(self) -> Mapping[str, Any]:
        """Return the JSON report, schema 1."""
        known = self.digest is not None
        planned = self.tense is Tense.PLANNED
        return {
            "schema": 1,
            "ref": self.ref if known else None,
            "digest": _text(self.digest),
            "media_type": self.media_type,
            "changed": self.changed,
            "destinations": [destination.to_json() for destination in self.destinations],
            "images": [image.to_json(self.tense) for image in self.images],
            "bytes": {
                "uploaded": self.bytes_of(Action.UPLOADED) if planned else self.uploaded_bytes,
                "reused": self.bytes_of(Action.REUSED),
                "mounted": self.bytes_of(Action.MOUNTED),
            },
            "planning": {
                "steps": [step for image in self.images for step in image.steps],
                "layout_from": [str(one) for image in self.images for one in image.layout_from],
            },
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
        }


def _text(digest: Digest | None) -> str | None:
    return str(digest) if digest else None


def check_budget(size: int, limit: int) -> None:
    """Raise BudgetExceededError where `size`, the bytes of layers to upload, exceeds `limit`.

    The sizes of a plan may be estimates.
    """
    if size > limit:
        raise BudgetExceededError(
            f"{size} bytes of layers would be sent, and --max-upload allows {limit}; "
            "regpush plan lists them"
        )
