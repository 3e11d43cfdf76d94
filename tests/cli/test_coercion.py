"""Values of flags, converted with and without typer's own help."""

import subprocess
import sys

import pytest

from regpush.cli import commands
from regpush.cli.app import command_line
from regpush.errors import UsageError
from tests.program import environment

WORDS = [
    ["x", "--to", "y"],
    ["x", "z", "--to", "y", "-t", "a", "-t", "b", "-j", "2", "--check"],
    ["x", "--to", "y", "--format", "json", "--progress", "none", "--if-exists", "skip"],
    ["x", "--to", "y", "--stall-timeout", "3", "--max-layers", "007", "-vv", "--by-digest"],
    ["x", "--to", "y", "--reuse", "content", "--username", "", "--label", "a=1"],
    ["--to", "y"],
]
WRONG = [
    ["x"],
    ["x", "--to", "y", "-j", "0"],
    ["x", "--to", "y", "-j", "65"],
    ["x", "--to", "y", "-j", "-1"],
    ["x", "--to", "y", "-j", "many"],
    ["x", "--to", "y", "-j", "٣x"],
    ["x", "--to", "y", "--format", "xml"],
    ["x", "--to", "y", "--format", ""],
    ["x", "--to", "y", "--stall-timeout", "0"],
]


@pytest.fixture
def read(monkeypatch, tmp_path):
    """Parses a push's words, whatever is spared."""
    from typer.main import get_command

    monkeypatch.chdir(tmp_path)

    def parse(words, spare):
        monkeypatch.setattr(commands, "spare", spare)
        push = get_command(command_line(["push"])).commands["push"]
        return push.make_context("push", list(words)).params

    return parse


SPARE = commands.spare


def spare_nothing(params):
    pass


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_what_is_read_is_what_typer_reads(words, read):
    mine, typers = read(words, SPARE), read(words, spare_nothing)
    assert mine == typers
    assert {n: type(v) for n, v in mine.items()} == {n: type(v) for n, v in typers.items()}


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_what_is_wrong_is_said_by_typer(words, read):
    said = []
    for spare in (SPARE, spare_nothing):
        with pytest.raises(Exception) as caught:
            read(words, spare)
        assert not isinstance(caught.value, UsageError)
        said.append(caught.value.format_message())
    assert said[0] == said[1]


def test_no_push_waits_for_a_converter(tmp_path):
    """A value of each kind, as most pushes have them."""
    flags = ["-j", "2", "--format", "json", "--progress", "none", "-t", "a", "--check"]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "regpush", tmp_path, *flags,
         "--to", "127.0.0.1:1/x", "--retry-times", "0"],
        env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 5
    assert "httpx" in done.stderr
    assert "pydantic" not in done.stderr
