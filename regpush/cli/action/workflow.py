"""Format the workflow commands and output files that GitHub's runner reads from a step. Pure.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

from enum import Enum


class Level(Enum):
    """The severity of an annotation on a workflow run's page."""

    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"


def annotation(level: Level, title: str, message: str) -> str:
    """Return the workflow command that shows `message` on the page of the workflow run."""
    heading = _escaped(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{level.value} title={heading}::{_escaped(message)}"


def masks(secret: str) -> list[str]:
    """Return the workflow commands that hide `secret` in the log: one for each of its lines."""
    return [f"::add-mask::{_escaped(line)}" for line in secret.splitlines() if line.strip()]


def group(title: str) -> str:
    """Return the workflow command that begins a foldable group of log lines.

    END_GROUP ends the group.
    """
    return f"::group::{_escaped(title)}"


END_GROUP = "::endgroup::"


def stop_commands(token: str) -> str:
    """Return the workflow command after which the runner obeys no commands in the log.

    File names and replies of servers in the log could otherwise be read as commands. The command
    `resume_commands(token)` ends this; `token` must be a secret.
    """
    return f"::stop-commands::{token}"


def resume_commands(token: str) -> str:
    """Return the workflow command after which the runner obeys commands again.

    `token`: the one given to `stop_commands`.
    """
    return f"::{token}::"


def output(name: str, value: str, token: str) -> str:
    """Return the entry of a step's output `name` for the file GITHUB_OUTPUT.

    `token` marks the end of `value`; it must be a secret, so that `value` cannot contain it.
    """
    return f"{name}<<{token}\n{value}\n{token}\n"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
