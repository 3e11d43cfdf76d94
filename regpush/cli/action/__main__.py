"""The step of the GitHub Action: run regpush as the inputs say, and publish its report."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping

from regpush.cli.action import child, results, workflow
from regpush.cli.action import inputs as inputs_of
from regpush.cli.action.workflow import Level
from regpush.errors import UsageError
from regpush.report import Tense


def main(environ: Mapping[str, str]) -> int:
    """Run regpush with the inputs in `environ`, and write the step's outputs.

    Returns regpush's exit code.
    """
    inputs = inputs_of.given(environ)
    password, token = inputs.get("password", ""), inputs.get("github-token", "")
    _say(*workflow.masks(password), *workflow.masks(token))
    try:
        words = inputs_of.arguments(inputs)
        tense = Tense.DONE if inputs_of.pushes(inputs) else Tense.PLANNED
    except UsageError as error:
        _say(workflow.annotation(Level.ERROR, "regpush", str(error)))
        return error.exit_code
    beneath = inputs_of.without_inputs(environ)
    if token:
        beneath["GITHUB_TOKEN"] = token

    # regpush's output contains file names and replies of servers, which may look like commands of
    # the runner.
    quoted = secrets.token_hex(16)
    title = f"regpush {words[0]} {inputs.get('target', '')} --to {inputs.get('to', '')}"
    _say(workflow.group(title), workflow.stop_commands(quoted))
    try:
        ended = child.run(words, beneath, password, _say)
    finally:
        _say(workflow.resume_commands(quoted), workflow.END_GROUP)

    _say(*(workflow.annotation(Level.WARNING, "regpush", one) for one in ended.warnings()))
    if report := ended.report():
        _publish(report, tense, environ)
    elif not ended.code:
        message = (
            "regpush printed no JSON report: the input extra-args must not hold flags such as "
            "--help or --format"
        )
        _say(workflow.annotation(Level.ERROR, "regpush", message))
        return UsageError.exit_code
    if ended.code:
        _say(workflow.annotation(Level.ERROR, f"regpush, exit {ended.code}", ended.error()))
    return ended.code


def _publish(report: results.Report, tense: Tense, environ: Mapping[str, str]) -> None:
    """Print the outcome of the push or plan, and write the step's summary and outputs."""
    _say(results.sentence(report, tense), *filter(None, [report["ref"]]))
    _append(environ.get("GITHUB_STEP_SUMMARY"), results.summary(report, tense))
    found = results.outputs(report, tense)
    entries = [workflow.output(*one, secrets.token_hex(16)) for one in found.items()]
    _append(environ.get("GITHUB_OUTPUT"), "".join(entries))


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _append(path: str | None, text: str) -> None:
    """Append `text` to the file `path` of the runner; do nothing if `path` is None."""
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    sys.exit(main(os.environ))
