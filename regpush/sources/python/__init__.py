"""Turn a Python project with a lock file into a closure: `python:./app`.

Each package in the lock file is an item, identified by the hash that the lock file states. The plan
is made from the lock file alone. Only wheels whose layer must be sent are downloaded; their files
get the paths that an installer such as pip would give them.
"""

from __future__ import annotations

from regpush.closure import Closure
from regpush.errors import UsageError
from regpush.options import SourceOptions
from regpush.platform import Platform
from regpush.sources.surroundings import Surroundings
from regpush.sources.tools import Workshop

_LIBRARIES = ("packaging", "installer", "tomli")
"""Libraries that the extra `regpush[python]` installs."""


def resolve(
    path: str,
    options: SourceOptions,
    platform: Platform | None,
    workshop: Workshop,
    surroundings: Surroundings,
) -> tuple[str, Closure]:
    """Make the closure of the Python project at `path`.

    Returns a phrase that describes the project in messages, and the closure. Raises UsageError
    where a library of the extra `regpush[python]` is not installed, and for a project that cannot
    be pushed, SourceError, CancelledError.
    """
    try:
        from regpush.sources.python import source  # needs libraries of an extra
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _LIBRARIES:
            raise
        raise UsageError(
            f"python: needs the library '{error.name.split('.')[0]}'; install it by "
            "pip install 'regpush[python]'"
        ) from error
    return source.resolve(path, options, platform, workshop, surroundings)
