"""Which tags may be moved: the whole table."""

import pytest

from regpush.digest import Digest
from regpush.errors import TagConflictError, UsageError
from regpush.options import IfExists, RegistryOptions
from regpush.transfer.publish import TagRule, TagVerdict

NEW, OLD, OTHER = (Digest.of(text) for text in (b"new", b"old", b"other"))
MOVE, THERE, LEAVE = TagVerdict.MOVE, TagVerdict.THERE, TagVerdict.LEAVE


@pytest.mark.parametrize(
    ("if_exists", "current", "held", "verdict"),
    [
        (IfExists.REPLACE, None, None, MOVE),
        (IfExists.REPLACE, None, OLD, MOVE),
        (IfExists.REPLACE, None, NEW, THERE),
        (IfExists.SAME, None, None, MOVE),
        (IfExists.SAME, None, OLD, "--if-exists same"),
        (IfExists.SAME, None, NEW, THERE),
        (IfExists.SKIP, None, None, MOVE),
        (IfExists.SKIP, None, OLD, LEAVE),
        (IfExists.SKIP, None, NEW, THERE),
        (IfExists.FAIL, None, None, MOVE),
        (IfExists.FAIL, None, OLD, "--if-exists fail"),
        (IfExists.FAIL, None, NEW, "--if-exists fail"),
        (IfExists.REPLACE, OLD, None, MOVE),
        (IfExists.REPLACE, OLD, OLD, MOVE),
        (IfExists.REPLACE, OLD, OTHER, "--if-current"),
        (IfExists.REPLACE, OLD, NEW, THERE),
        (IfExists.SAME, OLD, OLD, "--if-exists same"),
        (IfExists.SKIP, OLD, OTHER, LEAVE),
        (IfExists.FAIL, OLD, OLD, "--if-exists fail"),
    ],
)
def test_verdicts(if_exists, current, held, verdict):
    rule = TagRule(if_exists, current)
    if isinstance(verdict, TagVerdict):
        assert rule.judge("h/a", NEW, {"t": held}) == {"t": verdict}
        return
    with pytest.raises(TagConflictError, match=f"^h/a:t .*{verdict}"):
        rule.judge("h/a", NEW, {"t": held})


@pytest.mark.parametrize(
    ("if_exists", "held", "skips"),
    [
        (IfExists.SKIP, {"a": OLD, "b": OTHER}, True),
        (IfExists.SKIP, {"a": OLD, "b": None}, False),
        (IfExists.SKIP, {}, False),
        (IfExists.SAME, {"a": OLD}, False),
    ],
)
def test_nothing_is_to_be_done_where_all_is_skipped(if_exists, held, skips):
    assert TagRule(if_exists).skips(held) is skips


def test_only_fail_is_decided_before_there_is_an_image():
    TagRule(IfExists.SAME, OLD).admit("h/a", {"a": OTHER})
    TagRule(IfExists.FAIL).admit("h/a", {"a": None})
    said = f"^h/a:a exists and names {OLD}; no tag was moved \\(--if-exists fail\\)$"
    with pytest.raises(TagConflictError, match=said):
        TagRule(IfExists.FAIL).admit("h/a", {"a": OLD})
    with pytest.raises(TagConflictError, match="h/a:b exists"):
        TagRule(IfExists.FAIL).admit("h/a", {"a": None, "b": OLD})


def test_the_rule_of_options():
    assert TagRule.of(RegistryOptions()) == TagRule()
    assert not TagRule().conditional
    assert TagRule.of(RegistryOptions(if_current=str(OLD))).current == OLD
    assert TagRule(current=OLD).conditional
    assert TagRule(IfExists.SAME).conditional
    with pytest.raises(UsageError, match="--if-current: not a digest"):
        TagRule.of(RegistryOptions(if_current="latest"))
