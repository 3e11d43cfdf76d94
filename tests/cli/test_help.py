"""What helps while one types: the help with its examples, completion, and what was meant."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from regpush import errors
from regpush.cli import commands as commands_package
from regpush.cli.entries import ENTRIES
from regpush.layering.strategies import STRATEGIES
from tests.documents import ROOT
from tests.flags import commands
from tests.patience import HANG_S
from tests.program import environment, regpush
from tests.registry.parts import real_part

NAMES = [command.name for command in commands()]


def test_every_command_has_its_place_and_examples() -> None:
    modules = {path.stem for path in Path(commands_package.__file__ or "").parent.glob("*.py")}
    assert modules - {"__init__"} == set(ENTRIES)
    assert all(entry.examples for entry in ENTRIES.values())
    # The list is made without what a command imports, so it has the first line of the help too.
    assert {one.name: one.summary for one in commands()} == {
        name: entry.summary for name, entry in ENTRIES.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_examples_use_flags_that_exist(name: str) -> None:
    known = {command.name: command for command in commands()}
    for example in ENTRIES[name].examples:
        words = shlex.split(
            example.rpartition("| ")[2] if "| regpush" in example else example.partition(" |")[0]
        )
        assert words[0] == "regpush"
        used = words[1] if words[1] in known else "push"
        assert used == name
        spellings = {one for flag in known[used].flags for one in flag.spellings}
        assert {word for word in words if re.match("--?[a-z]", word)} <= spellings


def test_a_paragraph_of_help_fills_its_lines() -> None:
    shown = regpush("doctor", "--help", env={"COLUMNS": "300"}).ok().stdout
    assert "Usage: regpush doctor [OPTIONS] REF" in [line.strip() for line in shown.splitlines()]
    (paragraph,) = (line for line in shown.splitlines() if "No tag is moved" in line)
    assert paragraph.strip().endswith("5 for the network.")


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_the_list_of_commands(columns: str) -> None:
    shown = regpush("--help", env={"COLUMNS": columns}).ok()
    assert shown.stderr == ""
    panels = re.findall(r"─ (\w+) ─", shown.stdout)
    known = ["Options", "Push", "Look", "Registry", "Pipeline"]
    assert panels == [panel for panel in known if panel in panels]
    assert panels[:4] == known[:4]
    for name in NAMES:
        assert re.search(rf"^│ {name} +\S", shown.stdout, re.MULTILINE)
    assert "$ regpush ./myapp --to registry.example.com/app\n" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= max(int(columns), 60)
    assert "\x1b" not in shown.stdout
    assert "<bool>" not in shown.stdout


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_command(name: str) -> None:
    shown = regpush(name, "--help", env={"COLUMNS": "60"}).ok().stdout
    assert "Examples:\n   $ " in shown
    assert "<bool>" not in shown


def test_help_shows_the_common_flags_and_help_all_the_rest() -> None:
    few, all_of_them = (regpush("push", word).ok().stdout for word in ("--help", "--help-all"))
    flags = re.compile(r"^│ [* ]*(--[a-z-]+)", re.MULTILINE)
    assert flags.findall(few) == [
        "--help-all", "--help", "--to", "--tag", "--from", "--entrypoint", "--env",
        "--workdir", "--platform", "--layers", "--format", "--verbose",
    ]  # fmt: skip
    (push,) = (one for one in commands() if one.name == "push")
    assert {flag.spellings[0] for flag in push.flags} <= set(
        re.findall(r"--[a-z-]+|-[a-zA-Z]", all_of_them)
    )
    hidden = len(push.flags) - 10
    assert f" {hidden} more flags: regpush push --help-all\n" in few
    panels = re.findall(r"─ ([A-Z][\w :()]+) ─", all_of_them)
    assert panels[-1] == "Targets of Nix and Guix"


def complete(*words: str) -> list[str]:
    """What bash would be given for the last of `words`."""
    env = {
        "_REGPUSH_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = regpush(env=env)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["regpush", "ins"], ["inspect"]),
        (["regpush", "--to"], ["--to"]),
        (["regpush", "--versio"], ["--version"]),
        (["regpush", "./myapp", "--plat"], ["--platform"]),
        (["regpush", "./myapp", "--to", "x", "--if-exists", "s"], ["same", "skip"]),
        (["regpush", "--progress", "pl"], ["plain"]),
        (["regpush", "plan", "--exac"], ["--exact"]),
        (["regpush", "./myapp", "--layers", "a"], ["app-deps", "auto"]),
        (["regpush", "./myapp", "--compression", "zs"], ["zstd"]),
        (["regpush", "doctor", "x", "--form"], ["--format"]),
        # Nothing is given: the shell offers files.
        (["regpush", "./my"], []),
        (["regpush", "push", "./my"], []),
        (["regpush", "--ca-file", "./my"], []),
    ],
    ids=lambda value: "-".join(value),
)
def test_completion(words: list[str], expected: list[str]) -> None:
    assert complete(*words) == expected


def test_the_first_word_may_be_any_command() -> None:
    assert set(complete("regpush", "x")) == set()
    env = {"_REGPUSH_COMPLETE": "complete_bash", "COMP_WORDS": "regpush ", "COMP_CWORD": "1"}
    assert set(regpush(env=env).stdout.split()) == set(NAMES)


SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_in_a_real_shell(tmp_path: Path, shell: str) -> None:
    real_part(shell)
    (tmp_path / "myapp").mkdir()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "regpush"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m regpush \"$@\"\n")
    program.chmod(0o755)
    env = environment(TERM="xterm", LANG="C.UTF-8", HOME=str(tmp_path), PS1="> ")
    env["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{env['PATH']}"
    # Typer finds out which shell asks; here it is told.
    told = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    script = regpush("--show-completion", shell, env=told).ok().stdout
    (tmp_path / "completion").write_text(script)
    load = {
        "bash": "source ./completion",
        "zsh": "autoload -Uz compinit; compinit -u; source ./completion",
        "fish": "source ./completion",
    }[shell]
    master, slave = pty.openpty()
    with subprocess.Popen(
        SHELLS[shell],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=env,
        cwd=tmp_path,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as running:
        os.close(slave)
        try:
            _read_until(master, b"> " if shell != "fish" else b"@")
            os.write(master, f"{load}; echo lo''aded\n".encode())
            _read_until(master, b"loaded")
            for typed, wanted in (("regpush ./my", "./myapp/"), ("regpush --plat", "--platform")):
                os.write(master, typed.encode())
                _read_until(master, typed[-3:].encode())
                os.write(master, b"\t")
                _read_until(master, wanted.encode()[len(typed) - 8 :])
                os.write(master, b"\x15")  # Ctrl-U: the line is gone
        finally:
            running.kill()
    os.close(master)


def _read_until(master: int, wanted: bytes) -> None:
    """Read what a shell shows until `wanted` is in it, colours and all taken out."""
    seen, end = b"", time.monotonic() + HANG_S
    while wanted not in re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen):
        left = end - time.monotonic()
        assert left > 0, seen
        if select.select([master], [], [], left)[0]:
            seen += os.read(master, 65536)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["inspet", "localhost:1/app"], "did you mean 'regpush inspect'?"),
        (["logn", "localhost:1"], "did you mean 'regpush login'?"),
        (["myapp", "--plaform", "linux/arm64"], "did you mean --platform?"),
        (["plan", "myapp", "--exat"], "did you mean --exact?"),
        (["myap", "--to", "localhost:1/app"], "did you mean myapp?"),
        (["./myap/", "--to", "localhost:1/app"], "did you mean ./myapp?"),
        (["myapp", "--qqqqqq"], "No such option: --qqqqqq; see regpush push --help"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_was_meant(tmp_path: Path, arguments: list[str], meant: str) -> None:
    (tmp_path / "myapp").mkdir()
    done = regpush(*arguments, cwd=tmp_path).failed(2)
    assert done.stderr.rstrip("\n").endswith(meant)


def test_nothing_is_made_up_where_nothing_is_near(tmp_path: Path) -> None:
    done = regpush("zzzz", "--to", "localhost:1/app", cwd=tmp_path).failed(2, "zzzz")
    assert "did you mean" not in done.stderr


def test_help_and_guide_name_every_strategy():
    told = regpush("push", "--help-all").ok().stdout
    guide = (ROOT / "docs/guide/layers.md").read_text()
    for name in STRATEGIES:
        assert re.search(rf"(?<![a-z-]){name}(?![a-z-])", told), name
        assert f"`{name}`" in guide, name


def test_the_reference_has_a_row_for_every_exit_code():
    table = (ROOT / "docs/reference/exit-codes.md").read_text()
    rows = re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
    said = {int(code) for row in rows for code in row.split(",")}
    codes = {one.exit_code for one in vars(errors).values() if hasattr(one, "exit_code")}
    assert codes - {errors.RegpushError.exit_code} <= said
