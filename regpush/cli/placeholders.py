"""Fill in placeholders such as `{git_sha}` in flags, from git, CI variables and the clock."""

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

# For a pull request GITHUB_REF_NAME is `12/merge`. GITHUB_HEAD_REF is not read: a fork may call
# its branch `main`, and its image would get the tag `main`.
_COMMITS = ("GITHUB_SHA", "CI_COMMIT_SHA")
_BRANCHES = ("GITHUB_REF_NAME", "CI_COMMIT_REF_NAME")
_SHORT = 7


def fill_in(params: dict[str, Any], values: Values) -> None:
    """Fill in the placeholders in the values `params` of flags, in place.

    Tags, references and KEY=VALUE pairs may contain placeholders. Raises UsageError for a
    placeholder that is unknown or has no value.
    """
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
    """Return, for each placeholder, a function that finds its value when it is first needed.

    `directories`: searched in order for files that state a version; git runs in the last of them.
    `version`: the configured version, which takes precedence. `say`: called with a note if the work
    tree has uncommitted changes.
    """
    checkout = WorkTree(directories[-1])

    @cache
    def dirt() -> str:
        try:
            dirty = checkout.is_dirty()
        except NotInGitError:  # the commit comes from a CI variable
            return ""
        if dirty:
            say("the git work tree has uncommitted changes: {git_sha} ends in -dirty")
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
    """Return the result of `git`, or if git fails, the value of the first set CI variable.

    A CI runner may have no git, no `.git` directory, or a detached HEAD. Raises UsageError, naming
    `placeholder`, if no variable is set either.
    """
    try:
        return git()
    except NotInGitError as error:
        for name in variables:
            if environ.get(name):
                return environ[name]
        raise UsageError(
            f"the placeholder {placeholder} has no value: git says '{printable(str(error))}', "
            f"and neither {' nor '.join(variables)} is set"
        ) from error


def _version(checkout: WorkTree, directories: Sequence[str]) -> str:
    for directory in directories:
        if found := project.version(directory):
            return found
    try:
        described = checkout.description()
    except NotInGitError as error:
        raise UsageError(
            "the placeholder {version} has no value: the configuration has no key `version`, and "
            "neither pyproject.toml, package.json, Cargo.toml nor a git tag states a version "
            f"({printable(str(error))})"
        ) from error
    # Git tags are named v1.2.3, versions 1.2.3.
    return described[1:] if described[:1] == "v" and described[1:2].isdigit() else described
