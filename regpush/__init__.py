"""Push an application straight into an OCI registry as a layered image.

    result = regpush.push("./myapp", to="registry.example.com/app")

`push` and `plan` take a `PushOptions`, report progress by events, raise a `RegpushError`, and
return a `PushResult`. The names in `__all__` are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regpush.concurrency import Cancellation
    from regpush.errors import RegpushError
    from regpush.flow.pipeline import plan, push
    from regpush.options import PushOptions
    from regpush.report import PushResult

__version__ = "0.1.0"
__all__ = [
    "Cancellation", "PushOptions", "PushResult", "RegpushError", "__version__", "plan", "push",
]  # fmt: skip

_HOME = {
    "Cancellation": "regpush.concurrency",
    "RegpushError": "regpush.errors",
    "PushOptions": "regpush.options",
    "PushResult": "regpush.report",
    "plan": "regpush.flow.pipeline",
    "push": "regpush.flow.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'regpush' has no attribute '{name}'")
    from importlib import import_module  # --version does without it

    return getattr(import_module(_HOME[name]), name)
