"""The workflow commands and files by which a step talks to GitHub's runner. Pure.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

from enum import Enum


class Level(Enum):
    """The severity of an annotation."""

    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"


def annotation(level: Level, title: str, message: str) -> str:
    """Return the command for a message on the page of the run, not only in its log."""
    heading = _escaped(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{level.value} title={heading}::{_escaped(message)}"


def masks(secret: str) -> list[str]:
    """Return the commands that hide `secret` in the log, one for each of its lines."""
    return [f"::add-mask::{_escaped(line)}" for line in secret.splitlines() if line.strip()]


def group(title: str) -> str:
    """Return the command that begins a foldable group of lines; END_GROUP ends the group."""
    return f"::group::{_escaped(title)}"


END_GROUP = "::endgroup::"


def stop_commands(token: str) -> str:
    """Return the command after which lines are text, until `resume_commands`.

    The log holds names of files and answers of servers: the runner must not obey them.
    """
    return f"::stop-commands::{token}"


def resume_commands(token: str) -> str:
    """Return the command that ends `stop_commands`; it needs the same secret `token`."""
    return f"::{token}::"


def output(name: str, value: str, token: str) -> str:
    """Return an entry of the file of outputs; the author of `value` must not know `token`."""
    return f"{name}<<{token}\n{value}\n{token}\n"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
