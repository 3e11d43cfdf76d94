"""The placeholders of tags, labels and references, filled in from git, the CI and the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from regpush.cli.keys import Key, by_field
from regpush.errors import UsageError, printable
from regpush.project import project
from regpush.project.checkout import NotInGitError, WorkTree
from regpush.project.templates import Values, render_reference, render_tag, render_text
from regpush.settings import Settings

# For a pull request GITHUB_REF_NAME is `12/merge`. GITHUB_HEAD_REF is not read: a fork may name
# its branch `main` and would get the tag of that.
_COMMITS = ("GITHUB_SHA", "CI_COMMIT_SHA")
_BRANCHES = ("GITHUB_REF_NAME", "CI_COMMIT_REF_NAME")
_SHORT = 7


def fill_in(params: dict[str, Any], values: Values) -> None:
    """Fill in the placeholders in all flags that may contain some."""
    for field, key in by_field().items():
        render, said = _render(key), params.get(field)
        if render and isinstance(said, str):
            params[field] = render(said, values)
        elif render and said:
            params[field] = [render(one, values) for one in said]


def _render(key: Key) -> Callable[[str, Values], str] | None:
    if key.field == "tag":
        return render_tag
    return {"REF": render_reference, "KEY=VALUE": render_text}.get(key.metavar)


def facts(
    environ: Mapping[str, str],
    directories: Sequence[str],
    version: str | None,
    say: Callable[[str], None],
) -> Values:
    """Return functions for the values of all placeholders; each runs once, at the first need.

    `directories`: searched in order for a version; git is asked in the last one, which is that of
    the configuration or the current one. `version`: the configured one. `say`: called with a note
    when the work tree has uncommitted changes.
    """
    checkout = WorkTree(directories[-1])

    @cache
    def dirt() -> str:
        try:
            dirty = checkout.is_dirty()
        except NotInGitError:  # the commit is from a CI variable then
            return ""
        if dirty:
            say("the work tree differs from its commit: {git_sha} ends in -dirty")
        return "-dirty" if dirty else ""

    def commit() -> str:
        return _ask(checkout.commit, environ, _COMMITS, "{git_sha}") + dirt()

    def short_commit() -> str:
        try:
            return checkout.short_commit() + dirt()
        except NotInGitError:
            return _ask(checkout.commit, environ, _COMMITS, "{git_sha_short}")[:_SHORT]

    def branch() -> str:
        return _ask(checkout.branch, environ, _BRANCHES, "{git_branch}")

    def date() -> str:
        said = Settings.from_environ(environ).source_date_epoch
        return time.strftime("%Y%m%d", time.gmtime(time.time() if said is None else said))

    def declared() -> str:
        return version or _version(checkout, directories)

    return {
        "git_sha": cache(commit),
        "git_sha_short": cache(short_commit),
        "git_branch": cache(branch),
        "date": cache(date),
        "version": cache(declared),
    }


def _ask(
    git: Callable[[], str], environ: Mapping[str, str], variables: Sequence[str], placeholder: str
) -> str:
    """Ask git for a value, else read it from a CI variable.

    A CI runner may have no git, no `.git`, or a detached HEAD.
    """
    try:
        return git()
    except NotInGitError as error:
        for name in variables:
            if environ.get(name):
                return environ[name]
        raise UsageError(
            f"{placeholder} is not known: {printable(str(error))}; "
            f"nor is {' or '.join(variables)} set"
        ) from error


def _version(checkout: WorkTree, directories: Sequence[str]) -> str:
    for directory in directories:
        if found := project.version(directory):
            return found
    try:
        described = checkout.description()
    except NotInGitError as error:
        raise UsageError(
            "{version}: neither `version` in the configuration, nor pyproject.toml, package.json "
            f"or Cargo.toml says one, nor a git tag ({printable(str(error))})"
        ) from error
    # Git tags are named v1.2.3, versions 1.2.3.
    return described[1:] if described[:1] == "v" and described[1:2].isdigit() else described
