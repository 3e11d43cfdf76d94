"""`regpush verify`: check the blobs, diff IDs, recipes and manifests of images in a registry.

Each blob is read once, block by block, and not stored. Everything that the registry sends is
checked against digests, beginning with the digest of the image's manifest.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Self

from msgspec import Struct
from msgspec.structs import replace

from regpush.commands.inspect import Inspection
from regpush.commands.rederive import Sources
from regpush.concurrency import Cancellation, parallel
from regpush.digest import Digest
from regpush.errors import SourceError, UsageError, VerificationError, printable
from regpush.image.image import SIZE, Image, Layer
from regpush.layering.labels import called
from regpush.pack.compression import LAYERS, decompressed
from regpush.pack.recipe import RECIPE_VERSION
from regpush.registry.repository import Repository

_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%", re.ASCII)


class Sample(Struct, frozen=True):
    """A rule for choosing the layers to read: the fraction `share`, above 0 and at most 1.

    At least one layer is chosen. The choice depends only on `seed` and the layers' digests, so that
    a run can be repeated.
    """

    share: float = 1.0
    seed: str = ""

    @classmethod
    def parse(cls, text: str, seed: str) -> Self:
        """Parse the value of --sample, a percentage such as `5%`.

        Raises UsageError for other text, and for a share that is not above 0% and at most 100%.
        """
        match = _PERCENT.fullmatch(text)
        if match is None or not 0 < float(match[1]) <= 100:
            raise UsageError(
                f"bad --sample '{printable(text)}': expected a percentage above 0% and at most "
                "100%, such as 5%"
            )
        return cls(float(match[1]) / 100, seed)

    def choose(self, digests: Sequence[Digest]) -> frozenset[Digest]:
        """Return those of `digests`, the digests of layers, whose blobs are to be read."""

        def lot(digest: Digest) -> bytes:
            return hashlib.sha256(f"{self.seed}\n{digest}".encode()).digest()

        distinct = sorted(set(digests), key=lot)
        return frozenset(distinct[: math.ceil(len(distinct) * self.share)])


class LayerCheck(Struct, frozen=True, kw_only=True):
    """The result of checking a layer; `number` counts from 1, lowest layer first.

    `read`: bytes of the blob that were read, 0 if only its existence was checked. `compared`:
    whether the layer was packed again from the target and compared. `problems`: sentences about
    errors; `remarks`: sentences about checks that were not possible.
    """

    number: int
    layer: Layer
    read: int = 0
    compared: bool = False
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def to_json(self) -> Mapping[str, Any]:
        """Return one element of `layers` in the JSON report of `regpush verify`."""
        descriptor = self.layer.descriptor
        return {
            "number": self.number,
            "digest": str(descriptor.digest),
            "size": descriptor.size,
            "diff_id": str(self.layer.diff_id),
            "items": list(self.layer.items),
            "bytes_read": self.read,
            "compared": self.compared,
            "problems": list(self.problems),
            "remarks": list(self.remarks),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCheck:
    """The result of checking an image.

    `problems`: sentences about errors in its manifest and config. `layers`: the results of its
    layers, lowest first.
    """

    ref: str
    image: Image
    problems: tuple[str, ...]
    layers: tuple[LayerCheck, ...] = field(repr=False)

    def failures(self) -> Iterator[str]:
        """Yield a sentence for each problem of the image and of its layers.

        The sentence names the image, and the layer if the problem is in a layer.
        """
        for problem in self.problems:
            yield f"{self.ref}: {problem}"
        for check in self.layers:
            for problem in check.problems:
                yield (
                    f"{self.ref}: layer {check.number} of {len(self.layers)} "
                    f"({check.layer.descriptor.digest}; {_contents(check.layer)}): {problem}"
                )

    def to_json(self) -> Mapping[str, Any]:
        """Return one element of `images` in the JSON report of `regpush verify`."""
        return {
            "ref": self.ref,
            "digest": str(self.image.descriptor.digest),
            "platform": str(self.image.platform),
            "problems": list(self.problems),
            "layers": [check.to_json() for check in self.layers],
        }


class Verification(Struct, frozen=True, kw_only=True):
    """The result of `regpush verify`: the checks of all images, and the sample that was read."""

    images: tuple[ImageCheck, ...]
    sample: Sample

    def raise_failures(self) -> None:
        """Raise VerificationError for the first problem, if there are any."""
        failures = [text for image in self.images for text in image.failures()]
        if failures:
            more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
            raise VerificationError(f"{failures[0]}{more}")

    def to_json(self) -> Mapping[str, Any]:
        """Return the JSON report of `regpush verify` (docs/reference/report.md)."""
        return {
            "schema": 1,
            "ok": not any(True for image in self.images for _ in image.failures()),
            "sample": {"share": self.sample.share, "seed": self.sample.seed},
            "images": [image.to_json() for image in self.images],
        }


class _Task(Struct, frozen=True):
    """A layer to check once, even if several images have it.

    `whole`: whether its blob is read. `spared`: why the layer cannot be compared with the target;
    empty if it can.
    """

    layer: Layer
    whole: bool
    spared: str


def verify(
    found: Sequence[Inspection],
    repository: Repository,
    sources: Sources | None,
    *,
    sample: Sample,
    jobs: int,
    cancel: Cancellation,
) -> Verification:
    """Check the layers of the images `found` in `repository`; every blob must exist.

    The manifests and configs of `found` must have been verified by digest. Blobs chosen by `sample`
    are read and their diff IDs computed; with `sources`, their layers are packed again and
    compared. `jobs`: number of layers checked at a time. Problems are reported, not raised. Raises
    SourceError if an item of `sources` cannot be read, the errors of a registry that cannot be
    read, and CancelledError.
    """
    layers = [layer for one in found for layer in one.image.layers]
    chosen = sample.choose([layer.descriptor.digest for layer in layers])
    spared = {key: why for one in found for key, why in _not_comparable(one.image)}
    tasks = {
        _key(layer): _Task(
            layer=layer,
            whole=layer.descriptor.digest in chosen,
            spared=spared.get(_key(layer), ""),
        )
        for layer in layers
    }

    def work(task: _Task) -> LayerCheck:
        return _check(task, repository, sources, cancel)

    order = sorted(tasks.values(), key=lambda task: -task.layer.descriptor.size)
    done = dict(
        zip((_key(task.layer) for task in order), parallel(jobs, order, work, cancel), strict=True)
    )
    images = []
    for one in found:
        checks = tuple(
            replace(done[_key(layer)], number=number)
            for number, layer in enumerate(one.image.layers, 1)
        )
        problems = [*_inconsistencies(one.image), *_missing(one.image, sources)]
        ref = str(one.reference.with_digest(one.image.descriptor.digest))
        images.append(ImageCheck(ref=ref, image=one.image, problems=tuple(problems), layers=checks))
    return Verification(images=tuple(images), sample=sample)


def _key(layer: Layer) -> tuple[object, ...]:
    return layer.descriptor, layer.diff_id, layer.items


def _not_comparable(image: Image) -> Iterator[tuple[tuple[object, ...], str]]:
    """Yield the key of each layer of `image` that cannot be compared with a target, and the reason.

    The reason is the beginning of a sentence that ends in "not compared".
    """
    version = image.recipe_version
    for layer in image.own_layers if version not in (None, RECIPE_VERSION) else ():
        yield (
            _key(layer),
            f"the layer's recipe has version {version}, but this regpush computes version "
            f"{RECIPE_VERSION}",
        )
    for layer in image.layers[: image.base_layers]:
        yield _key(layer), "the layer belongs to the base image"


def _check(
    task: _Task, repository: Repository, sources: Sources | None, cancel: Cancellation
) -> LayerCheck:
    layer, problems, remarks = task.layer, [], []
    read = 0
    if not task.whole:
        if not repository.has_blob(layer.descriptor):
            problems.append("the registry lacks the blob, or has a blob of another size")
    else:
        try:
            problems += _read(layer, repository, cancel)
            read = layer.descriptor.size
        except VerificationError as error:
            problems.append(str(error))
        if layer.descriptor.media_type not in LAYERS:
            remarks.append(
                "the diff ID is not checked: regpush does not unpack the media type "
                f"{printable(layer.descriptor.media_type)}"
            )
    compared = False
    if sources and not task.spared and task.whole:
        try:
            problems += sources.compare(layer)
            compared = True
        except SourceError as error:
            if not sources.agrees(layer):
                raise
            remarks.append(
                f"only the store's database confirms the recipe, the files were not read: {error}"
            )
    elif sources and task.spared:
        remarks.append(f"{task.spared}: not compared with the target")
    return LayerCheck(
        number=0,
        layer=layer,
        read=read,
        compared=compared,
        problems=tuple(one.removeprefix(f"{repository.name}: ") for one in problems),
        remarks=tuple(remarks),
    )


def _read(layer: Layer, repository: Repository, cancel: Cancellation) -> Iterator[str]:
    """Read the blob of `layer`, and yield a sentence for a wrong diff ID or uncompressed size.

    Raises VerificationError if the blob's digest or size is wrong.
    """
    descriptor = layer.descriptor
    with closing(repository.read_blob(descriptor)) as blocks:
        if descriptor.media_type not in LAYERS:
            _drain(blocks, cancel)
            return
        unpacked, size = hashlib.new(layer.diff_id.algorithm), 0
        try:
            for piece in decompressed(descriptor.media_type, blocks):
                cancel.check()
                unpacked.update(piece)
                size += len(piece)
        except VerificationError as error:
            # A digest mismatch is the better message: reading the rest of the blob raises it.
            _drain(blocks, cancel)
            yield str(error)
            return
        _drain(blocks, cancel)
    if unpacked.hexdigest() != layer.diff_id.hex:
        found = Digest(layer.diff_id.algorithm, unpacked.hexdigest())
        yield f"the blob unpacks to {found}, not to the layer's diff ID {layer.diff_id}"
    if layer.uncompressed_size not in (None, size):
        yield (
            f"the blob unpacks to {size} bytes, not to {layer.uncompressed_size} as the layer's "
            "annotation says"
        )


def _drain(blocks: Iterator[bytes], cancel: Cancellation) -> None:
    for _ in blocks:
        cancel.check()


def _inconsistencies(image: Image) -> Iterator[str]:
    """Yield a sentence for each contradiction between manifest, config and annotations."""
    config = json.loads(image.config)
    history = config.get("history")
    if isinstance(history, list):
        filled = [one for one in history if not one.get("empty_layer")]
        if len(filled) != len(image.layers):
            yield (
                f"the history in the config describes {len(filled)} layers, but the manifest has "
                f"{len(image.layers)}"
            )
    recipes = [layer for layer in image.layers if layer.recipe]
    if recipes and image.recipe_version is None:
        yield "layers have recipes, but the image states no recipe version"
    for number, layer in enumerate(image.layers, 1):
        if layer.recipe and not layer.items:
            yield f"layer {number} has a recipe, but the config's history lists no items for it"
        size = layer.descriptor.annotation(SIZE)
        if size is not None and layer.uncompressed_size is None:
            yield f"layer {number}: the annotation {SIZE} is '{printable(size[:80])}', not a number"
    places: dict[str, int] = {}
    for number, layer in enumerate(image.layers, 1):
        for path in layer.items if layer.recipe else ():
            if (before := places.setdefault(path, number)) != number:
                yield f"the item {printable(path)} is in two layers, {before} and {number}"


def _missing(image: Image, sources: Sources | None) -> Iterator[str]:
    missing = sources.missing(image.layers) if sources else []
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        yield f"no layer of the image holds {printable(missing[0])}{more} of the target"


def _contents(layer: Layer) -> str:
    if not layer.items:
        return "contents unknown"
    names = [printable(called(path)) for path in layer.contents]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
