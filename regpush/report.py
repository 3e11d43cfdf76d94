"""What a push did, or a plan would do: the typed result and its JSON (design.md, Interfaces)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from regpush.digest import Digest
from regpush.events import Action


class Tense(Enum):
    """Whether a report tells what was done or what would be."""

    DONE = "done"
    PLANNED = "planned"

    def word(self, action: Action) -> str:
        """`uploaded` or `upload`, and so on."""
        return action.value if self is Tense.DONE else _PLANNED[action]


_PLANNED = {Action.UPLOADED: "upload", Action.REUSED: "reuse", Action.MOUNTED: "mount"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReport:
    """One layer, bottom first in its image.

    `size` is bytes as transferred, an estimate where `digest` is None: then the layer was
    not packed.
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

    def to_json(self, tense: Tense) -> dict[str, Any]:
        """The `layers` object of the JSON report."""
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
class PushResult:
    """The outcome of a push, or of a plan.

    `image` is `registry/repository`; `digest` that of the manifest, None for a plan that
    packed nothing. `tags` all name it now; `moved` are those that did not before. `changed`
    is False where all tags already did.
    Bytes are of layers as transferred; `uploaded_bytes` counts config, manifests and
    repeated attempts too, for it is what crossed the network as bodies. `steps` say what
    the plan rests on, and `layout_from` are the manifests that it was made from.
    """

    image: str
    tags: tuple[str, ...]
    digest: Digest | None
    media_type: str
    platform: str
    changed: bool
    layers: tuple[LayerReport, ...]
    uploaded_bytes: int
    requests: int
    seconds: float
    moved: tuple[str, ...] = ()
    tense: Tense = Tense.DONE
    steps: tuple[str, ...] = ()
    layout_from: tuple[Digest, ...] = ()

    @property
    def ref(self) -> str:
        """`registry/repository@digest`, what a deployment should name."""
        return f"{self.image}@{self.digest}"

    def bytes_of(self, action: Action) -> int:
        """Bytes of the layers that `action` befell."""
        return sum(layer.size for layer in self.layers if layer.action is action)

    def to_json(self) -> Mapping[str, Any]:
        """The JSON report, schema 1."""
        known = self.digest is not None
        planned = self.tense is Tense.PLANNED
        return {
            "schema": 1,
            "ref": self.ref if known else None,
            "digest": _text(self.digest),
            "media_type": self.media_type,
            "changed": self.changed,
            "destinations": [
                {
                    "image": self.image,
                    "tags": list(self.tags),
                    "moved": list(self.moved),
                    "digest": _text(self.digest),
                }
            ],
            "images": [
                {
                    "platform": self.platform,
                    "digest": _text(self.digest),
                    "layers": [layer.to_json(self.tense) for layer in self.layers],
                }
            ],
            "bytes": {
                "uploaded": self.bytes_of(Action.UPLOADED) if planned else self.uploaded_bytes,
                "reused": self.bytes_of(Action.REUSED),
                "mounted": self.bytes_of(Action.MOUNTED),
            },
            "planning": {
                "steps": list(self.steps),
                "layout_from": [str(digest) for digest in self.layout_from],
            },
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
        }


def _text(digest: Digest | None) -> str | None:
    return str(digest) if digest else None
