"""The last steps of a push, against registries that lie and users who change their minds.

The repository here is a stand-in for replies that no real registry gives on demand.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from regpush.digest import OCI_LAYER_GZIP, Descriptor, Digest
from regpush.errors import (
    AuthError,
    CancelledError,
    RefusedError,
    TagConflictError,
    TransientError,
    VerificationError,
)
from regpush.events import Warned, ignore
from regpush.image.image import Layer, build
from regpush.options import IfExists, ImageOptions
from regpush.platform import Platform
from regpush.registry.api import MissingBlobsError
from regpush.transfer.publish import (
    Tagged,
    TagRule,
    digests_of_tags,
    manifest_of,
    move_tags,
    push_manifest,
)


@dataclass
class Liar:
    """Says yes to everything, and has what `has` says; `fails` are raised by tag."""

    has: dict = field(default_factory=dict)
    fails: dict = field(default_factory=dict)
    after_put: Callable = lambda self, reference: None
    name: str = "h/a"
    put: list = field(default_factory=list)

    def has_blob(self, descriptor):
        return True

    def put_manifest(self, data, media_type, reference):
        self.put.append(reference)
        if reference in self.fails:
            raise self.fails[reference]
        self.after_put(self, reference)

    def head_manifest(self, reference):
        return self.has.get(reference)


LAYER = Layer(descriptor=Descriptor.of(b"x", OCI_LAYER_GZIP), diff_id=Digest.of(b"y"))
IMAGE = manifest_of(build([LAYER], ImageOptions(), Platform("linux", "amd64"), recipe_version=1))
DIGEST = IMAGE.digest
OLD, OTHER = Digest.of(b"old"), Digest.of(b"other")
PLAIN = TagRule()


def stores(liar, reference):
    liar.has[reference] = DIGEST


@pytest.mark.parametrize("has", [None, OTHER])
def test_a_manifest_that_reads_back_otherwise_is_an_error(has):
    with pytest.raises(VerificationError, match="reads back as"):
        push_manifest(IMAGE, Liar({str(DIGEST): has}))


@pytest.mark.parametrize("before", [None, OLD])
def test_a_tag_that_does_not_move_is_tried_again_and_then_an_error(before):
    liar = Liar({"latest": before})
    with pytest.raises(VerificationError, match="latest reads back as"):
        move_tags(IMAGE, liar, {"latest": before}, PLAIN, ignore)
    assert liar.put == ["latest"] * 3


@pytest.mark.parametrize("before", [None, OLD])
def test_a_tag_that_another_push_moved_meanwhile_is_a_warning(before):
    events = []
    liar = Liar({"latest": OTHER})
    tagged = move_tags(IMAGE, liar, {"latest": before}, PLAIN, events.append)
    assert tagged == Tagged(("latest",), ("latest",))
    (warning,) = (event for event in events if isinstance(event, Warned))
    assert str(OTHER) in warning.message
    assert "another push moved it" in warning.message


def test_tags_that_are_there_are_left_alone():
    events = []
    liar = Liar({"a": DIGEST}, after_put=stores)
    tagged = move_tags(IMAGE, liar, {"a": DIGEST, "b": None}, PLAIN, events.append)
    assert liar.put == ["b"]
    assert tagged == Tagged(naming=("a", "b"), moved=("b",))
    assert [(event.tag, event.changed) for event in events] == [("a", False), ("b", True)]


def test_a_cancellation_between_tags_says_which_may_have_moved():
    liar = Liar(fails={"b": CancelledError("cancelled: no tag was moved")}, after_put=stores)
    with pytest.raises(CancelledError, match=f"a, b may name {DIGEST}"):
        move_tags(IMAGE, liar, dict.fromkeys("abc"), PLAIN, ignore)


@pytest.mark.parametrize("kind", [RefusedError, AuthError, TagConflictError])
def test_a_refusal_between_tags_says_which_moved(kind):
    liar = Liar(fails={"c": kind("no")}, after_put=stores)
    with pytest.raises(kind, match=r"^no; tags moved before that: a, b$"):
        move_tags(IMAGE, liar, dict.fromkeys("abc"), PLAIN, ignore)
    with pytest.raises(kind, match=r"^no$"):
        move_tags(IMAGE, liar, dict.fromkeys("c"), PLAIN, ignore)


@pytest.mark.parametrize("kind", [TransientError, VerificationError])
def test_a_failure_between_tags_says_which_may_have_moved(kind):
    liar = Liar(fails={"b": kind("no")}, after_put=stores)
    with pytest.raises(kind, match=f"^no; a, b may name {DIGEST}$"):
        move_tags(IMAGE, liar, dict.fromkeys("abc"), PLAIN, ignore)


def test_a_tag_that_cannot_be_read_back_may_have_moved():
    class Unreadable(Liar):
        def head_manifest(self, reference):
            raise RefusedError("not to you")

    with pytest.raises(VerificationError, match=f"not to you; a may name {DIGEST}$"):
        move_tags(IMAGE, Unreadable(), {"a": None}, PLAIN, ignore)


def test_what_blobs_are_missing_is_not_lost_on_the_way():
    error = MissingBlobsError("x", (OTHER,))
    with pytest.raises(MissingBlobsError) as caught:
        move_tags(IMAGE, Liar(fails={"a": error}), {"a": None}, PLAIN, ignore)
    assert caught.value.digests == (OTHER,)


def test_nothing_is_moved_when_one_tag_may_not_be():
    liar = Liar(after_put=stores)
    with pytest.raises(TagConflictError, match="h/a:b names"):
        move_tags(IMAGE, liar, {"a": None, "b": OLD}, TagRule(IfExists.SAME), ignore)
    assert liar.put == []


def test_a_tag_that_is_skipped_is_not_said_to_name_the_image():
    liar = Liar(after_put=stores)
    held = {"a": OLD, "b": None}
    tagged = move_tags(IMAGE, liar, held, TagRule(IfExists.SKIP), ignore)
    assert tagged == Tagged(naming=("b",), moved=("b",))


def test_tags_are_looked_at_together():
    assert digests_of_tags(Liar({"a": OLD}), ["a", "b"]) == {"a": OLD, "b": None}
    assert digests_of_tags(Liar(), []) == {}
