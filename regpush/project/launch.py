"""Guess how an app of a known framework is started in a container: base image, command, port.

The guesses follow the documentation of each framework. `regpush init` writes them into the
configuration file, for people to check and change.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Callable, Iterator

from msgspec import Struct

_ANY = "0.0.0.0"  # noqa: S104  inside a container, whose ports stay closed until a user opens them

_MOST = 1 << 20
"""Maximum bytes that are read of a project's file."""


class Launch(Struct, frozen=True, kw_only=True):
    """A guess how an app is pushed and started.

    `what`: the kind of app, such as `Flask`. `where`: the file that shows the kind. `port`: the TCP
    port that the app listens on. `target`: the target of the push, None for the directory.
    `root_dir`: directory in the image, None for the default. `base`: reference of the base image,
    None if the app needs none. `entrypoint`: empty if the base or the target has one. `ignore`:
    patterns of files in the directory that no container needs. `before`: shell commands for the
    user to run before each push.
    """

    what: str
    where: str
    port: int
    target: str | None = None
    root_dir: str | None = None
    base: str | None = None
    entrypoint: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    ignore: tuple[str, ...] = ()
    before: str = ""


def find_launch(directory: str) -> Launch | None:
    """Guess how the app in `directory` is started; None for an unknown kind of app."""
    return next((found for find in _FINDERS if (found := find(directory))), None)


def _django(directory: str) -> Launch | None:
    if not _text(directory, "manage.py"):
        return None
    project = re.search(r"([A-Za-z_]\w*)\.settings", _text(directory, "manage.py"))
    words: tuple[str, ...]
    if project and _needs(directory, "gunicorn"):
        words = ("gunicorn", "--bind", f"{_ANY}:8000", f"{project[1]}.wsgi")
    else:
        words = ("python", "manage.py", "runserver", f"{_ANY}:8000")
    return _python(directory, "Django", "manage.py", words, 8000)


def _fastapi(directory: str) -> Launch | None:
    if not (found := _module_with(directory, "FastAPI")):
        return None
    module, name = found
    words = ("uvicorn", f"{module}:{name}", "--host", _ANY, "--port", "8000")
    return _python(directory, "FastAPI", f"{module}.py", words, 8000)


def _flask(directory: str) -> Launch | None:
    if not (found := _module_with(directory, "Flask")):
        return None
    module, name = found
    words: tuple[str, ...]
    if _needs(directory, "gunicorn"):
        words = ("gunicorn", "--bind", f"{_ANY}:8000", f"{module}:{name}")
    else:
        words = ("flask", "--app", module, "run", "--host", _ANY, "--port", "8000")
    return _python(directory, "Flask", f"{module}.py", words, 8000)


def _python(directory: str, what: str, where: str, words: tuple[str, ...], port: int) -> Launch:
    locked = any(_has(directory, name) for name in ("uv.lock", "pylock.toml"))
    if locked:
        return Launch(what=what, where=where, port=port, target="python:.", entrypoint=words)
    version = re.match(r"\d+\.\d+", _text(directory, ".python-version"))
    folder = "deps"
    return Launch(
        what=what,
        where=where,
        port=port,
        base=f"docker.io/library/python:{version[0] if version else '3.12'}-slim",
        entrypoint=("python", *words[1:]) if words[0] == "python" else ("python", "-m", *words),
        env=(("PYTHONPATH", f"/app/{folder}"),),
        before=f"pip install --target {folder} -r requirements.txt (or lock the project with uv)",
    )


def _locked(directory: str) -> Launch | None:
    """Guess how to push a Python project with a lock file and no known framework; None without.

    Each push reads the packages and the entry point from the lock file.
    """
    name = next((name for name in ("uv.lock", "pylock.toml") if _has(directory, name)), None)
    return Launch(what="Python", where=name, port=8000, target="python:.") if name else None


def _node(directory: str) -> Launch | None:
    try:
        package = json.loads(_text(directory, "package.json"))
        needs = {**package.get("dependencies", {}), **package.get("devDependencies", {})}
        engine = str(package.get("engines", {}).get("node", ""))
    except (ValueError, AttributeError, TypeError, RecursionError):
        return None
    if not _text(directory, "package.json"):
        return None
    wanted = re.search(r"\d+", _text(directory, ".nvmrc") or engine)
    base = f"docker.io/library/node:{wanted[0] if wanted else '22'}-slim"
    locked = re.search(r'"lockfileVersion": *[23]\b', _text(directory, "package-lock.json"))
    target = "node:." if locked else None
    if "next" in needs:
        return _next(directory, base, target)
    what = "Express" if "express" in needs else "Node.js"
    return Launch(what=what, where="package.json", port=3000, base=base, target=target,
                  before="" if locked else "npm ci --omit=dev")  # fmt: skip


def _next(directory: str, base: str, target: str | None) -> Launch:
    """Guess how to push a Next.js app.

    If its configuration sets `output: standalone`, the target is `.next/standalone`, which holds a
    server and its dependencies, but not `public` and `.next/static` (Next.js documentation,
    "output"): the commands in `before` copy these.
    """
    for name in ("next.config.js", "next.config.mjs", "next.config.ts"):
        if re.search(r"""output["']?\s*:\s*["']standalone""", _text(directory, name)):
            folder = ".next/standalone"
            copies = f"cp -r .next/static {folder}/.next/"
            if os.path.isdir(os.path.join(directory, "public")):
                copies += f" && cp -r public {folder}/"
            # A container runtime sets HOSTNAME to the container's name, where the server listens.
            return Launch(what="Next.js", where=name, port=3000, base=base, target=folder,
                          entrypoint=("node", "server.js"), env=(("HOSTNAME", _ANY),),
                          before=f"npm ci && npm run build && {copies}")  # fmt: skip
    # Not node_modules/.bin/next, which needs /usr/bin/env; images without a system lack that.
    return Launch(what="Next.js", where="package.json", port=3000, base=base, target=target,
                  entrypoint=("node", "node_modules/next/dist/bin/next", "start"),
                  ignore=("/.next/cache",), before="npm ci && npm run build")  # fmt: skip


def _jar(directory: str) -> Launch | None:
    build = next((one for one in ("pom.xml", "build.gradle", "build.gradle.kts")
                  if _has(directory, one)), None)  # fmt: skip
    if build is None:
        return None
    folder = "target" if build == "pom.xml" else "build/libs"
    jars = sorted(glob.glob(os.path.join(glob.escape(directory), folder, "*.jar")))
    jars = [jar for jar in jars if not re.search(r"-(plain|sources|javadoc)\.jar$", jar)]
    what = "Spring Boot" if "spring-boot" in _text(directory, build) else "Java"
    name = os.path.basename(jars[0]) if jars else "app.jar"
    before = "mvn package" if build == "pom.xml" else "gradle build"
    return Launch(what=what, where=build, port=8080, target=f"{folder}/{name}",
                  base="docker.io/library/eclipse-temurin:21-jre", before=before)  # fmt: skip


def _go(directory: str) -> Launch | None:
    module = re.search(r"^module\s+(\S+)", _text(directory, "go.mod"), re.MULTILINE)
    if not module:
        return None
    name = module[1].rpartition("/")[2]
    return Launch(what="Go", where="go.mod", port=8080, target=f"bin/{name}",
                  before=f"CGO_ENABLED=0 go build -o bin/{name} .")  # fmt: skip


def _rust(directory: str) -> Launch | None:
    package = re.search(r'^name\s*=\s*"([^"]+)"', _text(directory, "Cargo.toml"), re.MULTILINE)
    if not package:
        return None
    return Launch(what="Rust", where="Cargo.toml", port=8080,
                  target=f"target/release/{package[1]}",
                  base="docker.io/library/debian:stable-slim",
                  before="cargo build --release")  # fmt: skip


def _static(directory: str) -> Launch | None:
    for folder in ("", "public", "dist", "_site"):
        if _has(directory, os.path.join(folder, "index.html")):
            return Launch(what="static files", where=os.path.join(folder, "index.html"), port=80,
                          target=folder or ".", root_dir="/usr/share/nginx/html",
                          base="docker.io/library/nginx:alpine")  # fmt: skip
    return None


_FINDERS: tuple[Callable[[str], Launch | None], ...] = (
    _django, _fastapi, _flask, _node, _jar, _go, _rust, _locked, _static,
)  # fmt: skip


def _module_with(directory: str, kind: str) -> tuple[str, str] | None:
    """Find the assignment `VARIABLE = KIND(…)` in a module of `directory`, such as `app.py`.

    `kind`: `FastAPI` or `Flask`. Returns the names of the module and of the variable, or None.
    """
    names = ["app.py", "main.py", "wsgi.py", "asgi.py", "server.py"]
    for name in names:
        found = re.search(rf"^(\w+)\s*(?::[^=\n]+)?=\s*(?:\w+\.)?{kind}\(", _text(directory, name),
                          re.MULTILINE)  # fmt: skip
        if found:
            return name.removesuffix(".py"), found[1]
    return None


def _needs(directory: str, package: str) -> bool:
    """Return whether `pyproject.toml` or `requirements.txt` contains the word `package`."""
    pattern = re.compile(rf"(?<![\w-]){package}(?![\w-])")
    return any(pattern.search(_text(directory, name))
               for name in ("pyproject.toml", "requirements.txt"))  # fmt: skip


def _has(directory: str, name: str) -> bool:
    return os.path.isfile(os.path.join(directory, name))


def _text(directory: str, name: str) -> str:
    """Return the first MiB of a file as text; empty if there is no readable file."""
    try:
        with open(os.path.join(directory, name), "rb") as file:
            return file.read(_MOST).decode("utf-8", "replace")
    except OSError:
        return ""


_DEPENDENCIES = re.compile(
    r"(?:\*\*/)?/?(node_modules|\.venv|venv|vendor|site-packages|target|dist|build|bin|deps|"
    r"__pycache__|__pypackages__|\.next|\.nuxt|\.output|\.svelte-kit)(?:/\**)?"
)
"""Folders that a Dockerfile creates in the image, and that a push takes from the directory."""


class Ignored(Struct, frozen=True, kw_only=True):
    """A translated `.dockerignore`.

    `kept`: lines in the syntax of `.gitignore`. `left`: original lines that were not translated.
    """

    kept: tuple[str, ...]
    left: tuple[str, ...]


def from_dockerignore(text: str) -> Ignored:
    """Translate the text of a `.dockerignore` (Docker docs, ".dockerignore files") to gitignore.

    Docker's patterns start at the root; gitignore's match at any depth unless they contain a slash.
    Patterns for folders of dependencies and compiled programs are left out: a Dockerfile creates
    these folders in the image, but a push takes them from the directory.
    """
    kept: list[str] = []
    left: list[str] = []
    for line in _patterns(text):
        mark, pattern = ("!", line[1:].strip()) if line.startswith("!") else ("", line)
        pattern = pattern.removeprefix("./").rstrip("/")
        if _DEPENDENCIES.fullmatch(pattern) or pattern.lower() in ("dockerfile*", "dockerfile"):
            left.append(line)
        elif pattern.startswith(("**", "/")):
            kept.append(mark + pattern)
        else:
            kept.append(f"{mark}/{pattern}")
    return Ignored(kept=tuple(kept), left=tuple(left))


def _patterns(text: str) -> Iterator[str]:
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith("#") and line != ".":
            yield line
