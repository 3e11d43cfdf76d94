"""Replies leave nothing in memory once they were read."""

import gc

import httpx

from regpush.digest import OCI_LAYER, Descriptor, Digest
from tests.registry_client.front import Answer, front
from tests.registry_client.opening import opened

_BLOB = Descriptor(media_type=OCI_LAYER, digest=Digest.of(b"blob"), size=4)


def _replies() -> int:
    return sum(type(one) is httpx.Response for one in gc.get_objects())


def test_a_reply_is_freed_without_the_garbage_collector() -> None:
    """Replies of httpx refer to themselves; regpush's collector runs after a million objects."""
    with front(lambda _: Answer(404)) as server, opened(server.host, "app") as at:
        gc.collect()
        gc.disable()
        try:
            before = _replies()
            for _ in range(5):
                assert not at.repository.has_blob(_BLOB)
            assert _replies() == before
        finally:
            gc.enable()
