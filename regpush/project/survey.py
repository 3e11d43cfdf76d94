"""Survey a directory for `regpush init`: guess the target, name, start command and registry."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from msgspec import Struct

from regpush.project.checkout import NotInGitError, WorkTree
from regpush.project.launch import Ignored, Launch, find_launch, from_dockerignore
from regpush.project.project import Project, describe

# Directories in which compiled programs usually lie.
_OUTPUTS = ("dist", "build", "bin")
_COMPILED = ("Go", "Rust")

# `git@host:owner/name.git`, `https://user:token@host/owner/name`: the part before the @ may be
# secret and is dropped.
_REMOTE = re.compile(
    r"(?:[a-z+]+://)?(?:[^@/]*@)?(?P<host>[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)(?::[0-9]+(?=/))?[:/]/?"
    r"(?P<path>[^:?#]+?)(?:\.git)?/?"
)
_REGISTRIES = {"github.com": "ghcr.io", "gitlab.com": "registry.gitlab.com"}
_FORGEJO = ("codeberg.org",)  # hosts that are git forge and registry at once


class Finding(Struct, frozen=True, kw_only=True):
    """A fact for the user to read: `what` was found, and the file or place `where` it was found."""

    what: str
    where: str


class Remote(Struct, frozen=True, kw_only=True):
    """The git repository that a checkout was cloned from.

    `web`: URL of its page. `path`: `OWNER/NAME` on its host. `registry`: `HOST/OWNER/NAME` in the
    container registry that belongs to the host; None if the host has none.
    """

    web: str
    path: str
    registry: str | None


class Survey(Struct, frozen=True, kw_only=True):
    """The guesses about a directory, for its first configuration file.

    `name`: a valid name for the app. `key` and `target`: the configuration key that names what to
    push (`target`, or `manifest` or `file` for Guix), and its value; `reason`: where they were
    found. `start`: the words of the command that starts the app. `ignores`: whether a
    `.regpushignore` exists. `launch`: how the app is started; None for an unknown kind of app.
    `dockerignore`: the translated `.dockerignore`; None without one.
    """

    name: str
    key: str
    target: str
    reason: Finding
    start: tuple[str, ...]
    project: Project | None
    remote: Remote | None
    ignores: bool
    launch: Launch | None = None
    dockerignore: Ignored | None = None

    @property
    def findings(self) -> Iterator[Finding]:
        """Yield all findings of the survey, to be shown to the user."""
        yield self.reason
        if self.project:
            version = f", version {self.project.version}" if self.project.version else ""
            yield Finding(
                what=f"{self.project.language}{version}", where=os.path.normpath(self.project.file)
            )
        if self.launch:
            yield Finding(what=f"{self.launch.what}, port {self.launch.port}",
                          where=self.launch.where)  # fmt: skip
        if self.remote:
            yield Finding(what=self.remote.web, where="git remote origin")
        if self.ignores:
            yield Finding(what="files to leave out", where=".regpushignore")


def look(directory: str) -> Survey:
    """Survey `directory`: guess its target, app name, start command and git remote.

    Raises UsageError if a file such as `pyproject.toml` cannot be read.
    """
    project = next(describe(directory), None)
    remote = _remote(WorkTree(directory))
    key, target, where = _target(directory, project)
    launch = find_launch(directory) if key == "target" and ":" not in target else None
    if launch and launch.target:
        target, where = launch.target, launch.where
    names = (
        project.name if project else None,
        remote.path if remote else None,
        os.path.basename(os.path.abspath(directory)),
    )
    return Survey(
        name=next(filter(None, map(_app_name, names)), "app"),
        key=key,
        target=target,
        reason=Finding(what=f"{key} = {target}", where=where),
        start=_start(launch, project, target) if key == "target" else (),
        project=project,
        remote=remote,
        ignores=os.path.isfile(os.path.join(directory, ".regpushignore")),
        launch=launch,
        dockerignore=_dockerignore(directory),
    )


def _start(launch: Launch | None, project: Project | None, target: str) -> tuple[str, ...]:
    if launch and launch.entrypoint:
        return launch.entrypoint
    return project.start if project and target == "." else ()


def _dockerignore(directory: str) -> Ignored | None:
    try:
        with open(os.path.join(directory, ".dockerignore"), "rb") as file:
            return from_dockerignore(file.read(1 << 20).decode("utf-8", "replace"))
    except OSError:
        return None


def _target(directory: str, project: Project | None) -> tuple[str, str, str]:
    """Guess what to push. Returns the configuration key, its value, and the file that shows it."""

    def has(name: str) -> bool:
        return os.path.lexists(os.path.join(directory, name))

    if has("flake.nix"):
        return "target", "nix:.#default", "flake.nix"
    if has("manifest.scm"):
        return "manifest", "manifest.scm", "manifest.scm"
    if has("guix.scm"):
        return "file", "guix.scm", "guix.scm"
    if has("default.nix"):
        return "target", "nix:./default.nix", "default.nix"
    for name in _OUTPUTS:
        if project and project.language in _COMPILED and has(name):
            return "target", name, f"{name}/"
    return "target", ".", "this directory"


def _remote(checkout: WorkTree) -> Remote | None:
    try:
        found = _REMOTE.fullmatch(checkout.remote())
    except NotInGitError:
        return None
    if not found:
        return None
    host, path = found["host"].lower(), found["path"].strip("/")
    registry = _REGISTRIES.get(host) or (host if host in _FORGEJO else None)
    return Remote(
        web=f"https://{host}/{path}", path=path, registry=f"{registry}/{path}" if registry else None
    )


def _app_name(text: str | None) -> str | None:
    """Return the last component of `text` as a name valid for apps and repositories.

    Letters become lower case, other characters than letters and digits `-`. None if nothing is
    left.
    """
    last = (text or "").rpartition("/")[2].lower()
    parts = re.findall(r"[a-z0-9]+", last)
    return "-".join(parts) or None
