"""What is sent again where a registry had lost it, and how often: without a registry."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from regpush.digest import OCI_MANIFEST, Digest
from regpush.flow.transaction import HEALS, healing
from regpush.registry.api import MissingBlobsError
from regpush.registry.repository import Manifest

WHOLE = Manifest(media_type=OCI_MANIFEST, data=b"{}", digest=Digest.of(b"{}"))
LOST = (Digest.of(b"lost"),)


@dataclass
class Flaky:
    """A delivery that a registry refuses `refusals` times for want of blobs."""

    refusals: int
    whole: Manifest = WHOLE
    healed_for: list = field(default_factory=list)
    sent: int = 0

    def send(self):
        self.sent += 1
        if self.sent <= self.refusals:
            raise MissingBlobsError("blob unknown", LOST)
        return self

    def healed(self, lost):
        self.healed_for.append(lost.digests)
        return self


@pytest.mark.parametrize("refusals", range(HEALS + 1))
def test_what_was_lost_is_sent_again(refusals):
    delivery = Flaky(refusals)
    assert healing(delivery, Flaky.send) is delivery
    assert delivery.healed_for == [LOST] * refusals


def test_a_registry_that_always_loses_it_ends_the_push():
    delivery = Flaky(HEALS + 1)
    with pytest.raises(MissingBlobsError, match="blob unknown"):
        healing(delivery, Flaky.send)
    assert (delivery.sent, len(delivery.healed_for)) == (HEALS + 1, HEALS)


def test_what_cannot_be_healed_ends_the_push_at_once():
    class Foreign(Flaky):
        def healed(self, lost):
            raise lost

    delivery = Foreign(1)
    with pytest.raises(MissingBlobsError):
        healing(delivery, Foreign.send)
    assert delivery.sent == 1
