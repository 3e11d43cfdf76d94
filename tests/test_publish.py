"""The last steps of a push, against registries that lie and users who change their minds.

The repository here is a stand-in for replies that no real registry gives on demand.
"""

from dataclasses import dataclass, field

import pytest

from regpush.digest import OCI_LAYER_GZIP, Descriptor, Digest
from regpush.errors import CancelledError, VerificationError
from regpush.image import Layer, Platform, build
from regpush.options import ImageOptions
from regpush.publish import move_tags, push_manifest


@dataclass
class Liar:
    """Says yes to everything, and has what `has` says."""

    has: dict = field(default_factory=dict)
    cancel_at: str = ""
    name: str = "h/a"
    put: list = field(default_factory=list)

    def has_blob(self, descriptor):
        return True

    def put_manifest(self, data, media_type, reference):
        self.put.append(reference)
        if reference == self.cancel_at:
            raise CancelledError("cancelled: no tag was moved")

    def head_manifest(self, reference):
        return self.has.get(reference)


LAYER = Layer(descriptor=Descriptor.of(b"x", OCI_LAYER_GZIP), diff_id=Digest.of(b"y"))
IMAGE = build([LAYER], ImageOptions(), Platform("linux", "amd64"), recipe_version=1)
DIGEST = IMAGE.descriptor.digest


@pytest.mark.parametrize("has", [None, Digest.of(b"other")])
def test_what_reads_back_otherwise_is_an_error(has):
    with pytest.raises(VerificationError, match="reads back as"):
        push_manifest(IMAGE, Liar({str(DIGEST): has}))
    with pytest.raises(VerificationError, match="latest reads back as"):
        move_tags(IMAGE, Liar({"latest": has}), ["latest"], (), lambda event: None)


def test_tags_that_are_there_are_left_alone():
    events = []
    liar = Liar({"a": DIGEST, "b": DIGEST})
    move_tags(IMAGE, liar, ["a", "b"], {"a"}, events.append)
    assert liar.put == ["b"]
    assert [(event.tag, event.changed) for event in events] == [("a", False), ("b", True)]


def test_a_cancellation_between_tags_says_which_may_have_moved():
    liar = Liar({"a": DIGEST}, cancel_at="b")
    with pytest.raises(CancelledError, match=f"a, b may name {DIGEST}"):
        move_tags(IMAGE, liar, ["a", "b", "c"], (), lambda event: None)
