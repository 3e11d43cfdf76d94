"""Documents of a registry that are no images: the message names the document."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from regpush.digest import OCI_INDEX, OCI_MANIFEST, Descriptor, Digest
from regpush.errors import VerificationError
from regpush.platform import Platform
from regpush.reference import RepositoryName
from regpush.registry.images import best, listed, read_image
from regpush.registry.repository import Manifest
from tests.registry.api import image_manifest

NAME = RepositoryName("r.example.com", "team/app")


@dataclass
class Shelf:
    """A `Holder` with the given manifests and blobs, by digest."""

    manifests: dict[str, Manifest] = field(default_factory=dict)
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    name: RepositoryName = NAME

    def get_manifest(self, reference: str, /) -> Manifest | None:
        return self.manifests.get(reference)

    @property
    def get_blob(self) -> Callable[[Descriptor], bytes]:
        return lambda descriptor: self.blobs[descriptor.digest]


def manifest(data: bytes, media_type: str = OCI_MANIFEST) -> Manifest:
    return Manifest(media_type=media_type, data=data, digest=Digest.of(data))


@pytest.mark.parametrize(
    ("document", "config", "words"),
    [
        (b"{", b"", "the manifest is not JSON"),
        (image_manifest(b"[]", b"l"), b"[]", "the image config is not a JSON object"),
        (image_manifest(b"{}", b"l", config={"size": 2}), b"{}", "no mediaType"),
    ],
)
def test_a_document_that_is_no_image_is_named(document: bytes, config: bytes, words: str) -> None:
    found = manifest(document)
    shelf = Shelf(blobs={Digest.of(config): config})
    with pytest.raises(VerificationError) as caught:
        read_image(found, shelf)
    assert str(caught.value).startswith(f"{NAME}@{found.digest}: ")
    assert words in str(caught.value)


def test_an_index_and_a_document_in_it_are_named() -> None:
    index = manifest(b'{"manifests": 7}', OCI_INDEX)
    for read in (listed, lambda one, shelf: best(one, lambda _: 0, shelf)):
        with pytest.raises(VerificationError, match=f"^{NAME}@{index.digest}: 'manifests' is not"):
            read(index, Shelf())
    broken = manifest(b"no JSON at all")
    platform = Platform.parse("linux/amd64").to_json()
    entry = Descriptor.of(broken.data, OCI_MANIFEST).to_json() | {"platform": platform}
    outer = manifest(json.dumps({"manifests": [entry]}).encode(), OCI_INDEX)
    shelf = Shelf(manifests={str(broken.digest): broken})
    for read in (listed, lambda one, shelf: best(one, lambda _: 0, shelf)):
        with pytest.raises(
            VerificationError, match=f"^{NAME}@{broken.digest}: the manifest is not"
        ):
            read(outer, shelf)
