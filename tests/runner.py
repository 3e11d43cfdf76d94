"""Imitates GitHub's runner, as far as a composite action of shell steps meets it.

A step's script is put into a file and run by the command that `shell: bash` stands for, with the
variables and files of the runner's documentation; these files are read like the runner reads them.
Expressions are replaced by their values before a step runs, like on GitHub.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.patience import HANG_S
from tests.program import ROOT

ACTION: Mapping[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS: Mapping[str, Mapping[str, Any]] = {step["name"]: step for step in ACTION["runs"]["steps"]}

_EXPRESSION = re.compile(r"\$\{\{ *inputs\.([a-z-]+) *\}\}")
_SHELL = ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail")
_QUIET = re.compile(r"::stop-commands::(.+)")
_COMMAND = re.compile(r"::([a-z-]+)(?: ([^:]*))?::(.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A line of a step's log that the runner obeys instead of showing it."""

    name: str
    properties: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The result of a step: exit code, log, outputs by name, and the HTML of the summary."""

    code: int
    log: str
    outputs: Mapping[str, str]
    summary: str

    def commands(self, name: str) -> list[Command]:
        """The commands called `name`, such as `warning`, in the log."""
        return [one for _, one in _read(self.log) if one and one.name == name]

    def messages(self, name: str) -> list[str]:
        return [one.message for one in self.commands(name)]

    def shown(self) -> str:
        """Return the log as the runner shows it: without commands, masked texts as stars."""
        text = "\n".join(line for line, command in _read(self.log) if command is None)
        for secret in self.messages("add-mask"):
            text = text.replace(secret, "***")
        return text

    def ok(self) -> Step:
        assert self.code == 0, self.log
        return self


class Runner:
    """A job on a fresh machine, whose folders lie below `directory`."""

    def __init__(self, directory: Path, workspace: Path) -> None:
        self.temp, self.home, self.workspace = directory / "temp", directory / "home", workspace
        self._scratch = directory / "steps"
        for path in (self.temp, self.home, self._scratch):
            path.mkdir(parents=True)
        self._count = 0

    def install_this_python(self) -> None:
        """Put the Python of the tests where the first step of the action would install its own."""
        python = self.temp / "regpush-venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
        python.chmod(0o755)

    def start(
        self, name: str, inputs: Mapping[str, str], **environ: str
    ) -> tuple[subprocess.Popen[str], Path]:
        """Start the step `name`; returns the process, and the folder of the step's files."""
        step, self._count = STEPS[name], self._count + 1
        unknown = set(inputs) - set(ACTION["inputs"])
        assert not unknown, unknown
        said = {key: str(one.get("default", "")) for key, one in ACTION["inputs"].items()}
        said |= {"github-token": "", **inputs}

        def value(text: str) -> str:
            return _EXPRESSION.sub(lambda found: said[found[1]], text)

        files = self._scratch / str(self._count)
        files.mkdir()
        script = files / "script.sh"
        script.write_text(value(step["run"]))
        for empty in ("output", "summary"):
            (files / empty).touch()
        process = subprocess.Popen(
            [*_SHELL, str(script)],
            cwd=self.workspace,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "CI": "true",
                "GITHUB_ACTIONS": "true",
                "GITHUB_ACTOR": "octocat",
                "GITHUB_WORKSPACE": str(self.workspace),
                "GITHUB_ACTION_PATH": str(ROOT),
                "GITHUB_OUTPUT": str(files / "output"),
                "GITHUB_STEP_SUMMARY": str(files / "summary"),
                "RUNNER_TEMP": str(self.temp),
                **{key: value(text) for key, text in step["env"].items()},
                **environ,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return process, files

    def run(self, name: str, inputs: Mapping[str, str], **environ: str) -> Step:
        """Run step `name` of the action to its end."""
        return self.end(*self.start(name, inputs, **environ))

    def end(self, process: subprocess.Popen[str], files: Path) -> Step:
        """Wait for a step that `start` started; returns its result."""
        log, _ = process.communicate(timeout=3 * HANG_S)
        return Step(
            code=process.returncode,
            log=log,
            outputs=dict(_entries((files / "output").read_text())),
            summary=(files / "summary").read_text(),
        )

    def push(self, **inputs: str) -> Step:
        """Run the step that pushes; `max_layers` is the input max-layers."""
        return self.run("Push", {name.replace("_", "-"): text for name, text in inputs.items()})


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """Read the file of a step's outputs: `name=value`, or `name<<mark`, lines, `mark`."""
    lines = iter(text.splitlines())
    for line in lines:
        name, heredoc, mark = line.partition("<<")
        if not heredoc or "=" in name:
            yield line.partition("=")[::2]
            continue
        value = []
        while (line := next(lines)) != mark:
            value.append(line)
        yield name, "\n".join(value)


def _read(log: str) -> Iterator[tuple[str, Command | None]]:
    """Yield each line, with its command for the runner or None."""
    quiet = None
    for line in log.splitlines():
        if quiet is not None:
            if line == f"::{quiet}::":
                quiet = None
                continue
            yield line, None
        elif found := _QUIET.fullmatch(line):
            quiet = found[1]
        else:
            found = _COMMAND.fullmatch(line.strip())
            yield (
                line,
                found
                and Command(name=found[1], properties=found[2] or "", message=_unescaped(found[3])),
            )


def _unescaped(text: str) -> str:
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
