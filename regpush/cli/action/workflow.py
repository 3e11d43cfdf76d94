"""How a step speaks to GitHub's runner: commands in its log, and files that it reads. Pure.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

from enum import Enum


class Level(Enum):
    """How much an annotation matters."""

    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"


def annotation(level: Level, title: str, message: str) -> str:
    """A message that is shown beside the run, not in its log alone."""
    heading = _escaped(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{level.value} title={heading}::{_escaped(message)}"


def masks(secret: str) -> list[str]:
    """Commands after which the log shows stars for `secret`: the runner wants a line at a time."""
    return [f"::add-mask::{_escaped(line)}" for line in secret.splitlines() if line.strip()]


def group(title: str) -> str:
    """What follows is folded below `title`, until END_GROUP."""
    return f"::group::{_escaped(title)}"


END_GROUP = "::endgroup::"


def stop_commands(token: str) -> str:
    """From here on lines are text, whatever they look like, until `resume_commands`.

    Names of files and answers of servers come into the log: none of them shall be obeyed.
    """
    return f"::stop-commands::{token}"


def resume_commands(token: str) -> str:
    """What ends `stop_commands`; whoever does not know `token` cannot."""
    return f"::{token}::"


def output(name: str, value: str, token: str) -> str:
    """An entry of the file of outputs; `token` must not be known to whoever made `value`."""
    return f"{name}<<{token}\n{value}\n{token}\n"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
