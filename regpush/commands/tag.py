"""`regpush tag`: move tags to an image that its repository holds already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from regpush.commands.copy import CopyResult, copy
from regpush.concurrency import Cancellation
from regpush.errors import UsageError
from regpush.events import Listener, ignore
from regpush.options import RegistryOptions
from regpush.reference import Reference
from regpush.settings import Settings


def tag(
    reference: str,
    new: Sequence[str],
    *,
    settings: Settings,
    options: RegistryOptions | None = None,
    notify: Listener = ignore,
    cancel: Cancellation | None = None,
) -> CopyResult:
    """Move the tags `new` to the image or index `reference`, in its repository.

    A tag may be written as `v2`, `:v2` or `registry/repository:v2`. Raises UsageError for a tag in
    another repository, and the errors of `copy`.
    """
    parsed = Reference.parse(reference)
    names = dict.fromkeys(_name(text, parsed) for text in new)
    return copy(
        reference,
        to=str(parsed.name),
        settings=settings,
        options=replace(options or RegistryOptions(), tags=tuple(names), replace_index=True),
        notify=notify,
        cancel=cancel,
    )


def _name(text: str, reference: Reference) -> str:
    if "/" not in text:
        return reference.with_tag(text.removeprefix(":")).tag or ""
    named = Reference.parse(text)
    if named.name != reference.name or named.digest or not named.tag:
        raise UsageError(
            f"{text} is not a tag in {reference.name}; "
            "to copy an image to another repository, use regpush copy"
        )
    return named.tag
