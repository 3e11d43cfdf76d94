"""Values that are already what a flag takes are left as they are.

Typer, since it converts with pydantic, imports that and builds a converter for each flag of a
command, given or not: a third of the time of an unchanged push. Nearly all values are text for
flags that take text, or defaults. What is anything else typer converts, with its own errors;
and a typer that does without pydantic converts everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from typing import Any


def spare(params: Iterable[Any]) -> None:
    """Have each of `params` of a command convert only what needs it."""
    for one in params:
        declared = getattr(getattr(one, "type_descriptor", None), "annotation", None)
        if declared is not None and not isinstance(one.process_value, partial):
            one.process_value = partial(_process, one, declared, one.process_value)


def _process(
    param: Any, declared: Any, convert: Callable[[Any, Any], Any], ctx: Any, value: Any
) -> Any:
    if not _is_fit(value, declared) or (param.required and not value):
        return convert(ctx, value)
    if param.multiple or param.nargs == -1:
        value = () if value is None else list(value)
    return value if param.callback is None else param.callback(ctx, param, value)


def _is_fit(value: Any, declared: Any) -> bool:
    if value is None or declared == list[str]:
        return value is None or (
            isinstance(value, list | tuple) and all(type(one) is str for one in value)
        )
    known = declared in (str, int, float, bool) or isinstance(value, Enum)
    return known and type(value) is declared
