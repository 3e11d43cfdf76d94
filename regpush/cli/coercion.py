"""Text is text, digits are a number, a choice has a name: none takes a library to convert.

Typer, since it converts with pydantic, imports that and builds a converter for each flag of a
command, given or not: a fifth of the time of an unchanged push. So what is plainly right is
taken here; all else typer converts, with its own errors, and a typer that does without pydantic
converts everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from typing import Any


def spare(params: Iterable[Any]) -> None:
    """Have each of `params` of a command convert only what needs it."""
    for one in params:
        if hasattr(one, "type_descriptor") and not isinstance(one.process_value, partial):
            one.process_value = partial(_process, one, one.process_value)


def _process(param: Any, convert: Callable[[Any, Any], Any], ctx: Any, value: Any) -> Any:
    declared = param.type_descriptor.annotation
    plain = _plain(value, declared)
    if not _is_fit(plain, param.type_descriptor) or (param.required and not plain):
        return convert(ctx, value)
    if param.multiple or param.nargs == -1:
        plain = () if plain is None else list(plain)
    return plain if param.callback is None else param.callback(ctx, param, plain)


def _plain(value: Any, declared: Any) -> Any:
    """`value`, or what it spells."""
    if declared is int and isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(declared, type) and issubclass(declared, Enum) and isinstance(value, str):
        return next((one for one in declared if one.value == value), value)
    return value


def _is_fit(value: Any, descriptor: Any) -> bool:
    declared, limits = descriptor.annotation, descriptor.parameter_info
    if value is None:
        return True
    if declared == list[str]:
        return isinstance(value, list | tuple) and all(type(one) is str for one in value)
    if type(value) is not declared:
        return False
    if declared in (int, float):
        low, high = limits.min, limits.max
        return (low is None or value >= low) and (high is None or value <= high)
    return declared in (str, bool) or isinstance(value, Enum)
