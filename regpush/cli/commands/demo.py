"""`regpush demo`: push a sample app with its dependencies twice, without a cache.

The dependencies are the packages of the virtual environment in which regpush runs, so nothing is
downloaded. The app is pushed to regpush's embedded registry, in a temporary directory.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from regpush import embedded
from regpush.cli import table
from regpush.cli.columns import size
from regpush.cli.console import print_lines, stoppable, width
from regpush.concurrency import Cancellation
from regpush.errors import UsageError
from regpush.flow.pipeline import push
from regpush.options import ImageOptions, PushOptions
from regpush.report import PushResult
from regpush.settings import Settings

_APP = '''\
"""A small web service."""

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def hello(request):
    return PlainTextResponse("Hello from version 1\\n")


app = Starlette(routes=[Route("/", hello)])
'''


def demo() -> None:
    """Push a sample app twice to a temporary registry, and show what crossed the network."""
    with stoppable() as cancel:
        _run(print_lines, width(), cancel)


def _run(say: Callable[..., None], width: int, cancel: Cancellation) -> None:
    """Push the sample app, change one line, and push it again.

    `say` is called with the lines to print; `width`: columns of the terminal. Raises UsageError if
    the extra `registry` is not installed, and the errors of `push`.
    """
    with tempfile.TemporaryDirectory(prefix="regpush-demo-") as name:
        folder = Path(name)
        app = make_app(folder / "myapp")
        with embedded.running(folder / "registry") as registry:
            to = f"{registry.host}/myapp"
            say(f"A temporary registry listens on {registry.url}.", "")
            say(f"$ regpush ./myapp --to {to}")
            first = _push(app, to, cancel)
            _show(first, width, say)
            code = app / "app.py"
            code.write_text(code.read_text().replace("version 1", "version 2"))
            say("", "One line of app.py changes. There is no cache, like on a fresh CI runner.", "")
            say(f"$ regpush ./myapp --to {to}")
            second = _push(app, to, cancel)
            _show(second, width, say)
            say(
                "",
                f"First push: {size(first.uploaded_bytes)}. "
                f"Second push: {size(second.uploaded_bytes)}. "
                "Only what changed crossed the network.",
            )


def make_app(folder: Path) -> Path:
    """Write the sample app into the new directory `folder`, and return `folder`.

    The app's dependencies are copies of the packages that regpush itself needs.
    """
    packages = folder / "site-packages"
    packages.mkdir(parents=True)
    (folder / "app.py").write_text(_APP)
    for distribution in _needed("regpush", "registry"):
        for file in distribution.files or []:
            source = Path(str(distribution.locate_file(file)))
            if ".." not in file.parts and "__pycache__" not in file.parts and source.is_file():
                target = packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    return folder


def _needed(name: str, extra: str) -> list[metadata.Distribution]:
    """Return the installed distributions that `name[extra]` requires, directly or indirectly."""
    found: dict[str, metadata.Distribution] = {}
    pending = [name]
    while pending:
        requirements = metadata.distribution(pending.pop()).requires or []
        for requirement in requirements:
            wanted, _, marker = requirement.partition(";")
            key = re.split(r"[^A-Za-z0-9._-]", wanted.strip(), maxsplit=1)[0].lower()
            if ("extra" in marker and f'"{extra}"' not in marker.replace("'", '"')) or (
                key in found or key == name
            ):
                continue
            try:
                found[key] = metadata.distribution(key)
            except metadata.PackageNotFoundError:
                continue  # the requirement's marker excludes this system or Python
            pending.append(key)
    if "starlette" not in found:
        raise UsageError("regpush demo needs the extra 'registry': pip install 'regpush[registry]'")
    return list(found.values())


def _push(app: Path, to: str, cancel: Cancellation) -> PushResult:
    options = PushOptions(
        image=ImageOptions(
            entrypoint=("python3", "-m", "uvicorn", "app:app"),
            env=(("PYTHONPATH", "/app/site-packages"),),
            workdir="/app",
        )
    )
    return push(str(app), to=to, options=options, settings=Settings(), cancel=cancel)


def _show(result: PushResult, width: int, say: Callable[..., None]) -> None:
    say(*table.styled(table.changes(result, width)), table.summary(result), result.ref)
