"""What is seen of a push while it goes on: bars on a terminal, lines in a log."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from regpush.cli import colour, progress
from regpush.cli.access import Voice
from regpush.cli.board import Board, Meter
from regpush.cli.flags import Progress
from regpush.cli.live import picture_of, totals
from regpush.cli.rendering import Renderer
from regpush.events import (
    Action,
    Event,
    Exchanged,
    LayerDone,
    LayerProgress,
    LayerSent,
    LayersPlanned,
    Note,
    TargetResolved,
    Warned,
)
from tests.bench.link import Link, Shape
from tests.flow.test_push_directory import write
from tests.program import Outcome, regpush
from tests.registry.servers import Registry
from tests.terminal import terminal

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three packages of 16 MB together, and a file."""
    root = tmp_path_factory.mktemp("progress") / "app"
    sizes = {
        "left-pad": 1,
        "日本語パッケージ": 1,
        "a-package-with-a-name-that-has-no-end-at-all": 14,
    }
    for name, megabytes in sizes.items():
        data = os.urandom(megabytes * 1_000_000)
        write(root / "node_modules" / name / "index.bin", data)
    write(root / "main.js", "hello")
    return root


@pytest.fixture(scope="module")
def link() -> Iterator[Link]:
    with Link() as running:
        yield running


@pytest.fixture
def slow(link: Link, docker_registry: Registry) -> str:
    """A registry behind 10 Mbit/s, over which `app` takes 13 s, until the test hastens it."""
    link.shape(Shape(rtt_ms=5, up_mbit=10))
    return link.forward(docker_registry.host)


def hasten(link: Link) -> None:
    link.shape(Shape(rtt_ms=5, up_mbit=1000))


@pytest.mark.parametrize(("columns", "rows"), [(40, 6), (80, 24), (200, 50)])
def test_bars_on_a_terminal(
    link: Link, slow: str, repository: str, app: Path, columns: int, rows: int
) -> None:
    to = f"{slow}/{repository}"

    def bars() -> list[list[str]]:
        return [frame for frame in shown.frames if any("━" in line for line in frame)]

    with terminal(app, "--to", to, "--no-cache", columns=columns, rows=rows) as shown:
        shown.wait_for(lambda _: len(bars()) > 3)
        hasten(link)
        assert shown.end() == 0
    assert shown.out.decode().startswith(f"{to}@sha256:")
    for frame in bars():
        # As many bars as layers on their way, and the line about the whole below them.
        assert sum("━" in line for line in frame) <= min(rows - 1, 5)
        assert re.match(r"(\d+ reused.*, )?sent [\d.]+ \w?B", frame[-1]) or "━" in frame[-1]
    seen = shown.lines()
    assert not [line for line in seen if "━" in line]
    assert (
        any(line.startswith("Sent 16.0 MB of layers, 16.0 MB in all") for line in seen) or rows < 10
    )
    # Nothing of a layer that arrived scrolls by: it is in the table, once.
    assert shown.raw.count(b"\r\nlayer 1/") == 0
    assert shown.raw.rfind(b"\x1b[?25l") < shown.raw.rfind(b"\x1b[?25h")


def test_a_window_that_becomes_narrow(link: Link, slow: str, repository: str, app: Path) -> None:
    to = f"{slow}/{repository}"
    with terminal(app, "--to", to, "--no-cache", columns=120) as shown:
        shown.wait_for(lambda seen: any("━" in line for line in seen))
        before = len(shown.frames)
        shown.resize(50, 10)
        shown.wait_for(lambda seen: len(shown.frames) > before + 6)
        hasten(link)
        assert shown.end() == 0
    # Emulators do not break rows anew as terminals do: rows that were erased are enough here.
    for frame in shown.frames[-8:]:
        assert max(map(len, frame), default=0) <= 50


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_leaves_a_terminal_as_it_was(
    slow: str, repository: str, app: Path, times: int
) -> None:
    # An image that only carries files: nothing is warned of.
    words = (app, "--to", f"{slow}/{repository}", "--no-cache", "--entrypoint", "")
    with terminal(*words) as shown:
        shown.wait_for(lambda seen: any("━" in line for line in seen))
        for _ in range(times):
            shown.process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        assert shown.end() == 130
    last = shown.lines()[-1]
    assert last in (
        "regpush: cancelled: no tag was moved; running again continues",
        "regpush: second signal, exiting at once",
    )
    assert shown.raw.rfind(b"\x1b[?25l") < shown.raw.rfind(b"\x1b[?25h")
    assert shown.screen.cursor.x == 0
    assert shown.raw.endswith(b"\r\n")
    if times == 1:
        assert shown.lines() == [last]


def test_a_terminal_that_cannot_move_gets_lines(
    link: Link, slow: str, repository: str, app: Path
) -> None:
    hasten(link)
    with terminal(app, "--to", f"{slow}/{repository}", "--no-cache", TERM="dumb") as shown:
        assert shown.end() == 0
    assert not CONTROL.search(shown.raw.decode().replace("\r\n", "\n"))
    assert "layer 1/5 " in shown.raw.decode()


def push(to: str, app: Path, *flags: str, **env: str) -> Outcome:
    return regpush(app, "--to", to, "--no-cache", *flags, env=env).ok()


def test_a_log_has_a_line_for_each_layer_that_was_sent(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    to = f"{docker_registry.host}/{repository}"
    first = push(to, app).stderr
    assert not CONTROL.search(first)
    assert len(re.findall(r"^layer [1-5]/5 .+: uploaded [\d.]+ k?M?B$", first, re.MULTILINE)) == 5
    assert re.search(r"^Sent 16\.0 MB of layers, 16\.0 MB in all, ", first.splitlines()[-1])
    again = push(to, app).stderr
    assert "layer 1/5" not in again
    assert "Unchanged." in again.splitlines()[-1]


def test_quiet_says_the_result_alone(docker_registry: Registry, repository: str, app: Path) -> None:
    to = f"{docker_registry.host}/{repository}"
    done = push(to, app, "-q")
    assert done.stderr == ""
    assert re.fullmatch(rf"{re.escape(to)}@sha256:[0-9a-f]{{64}}\n", done.stdout)
    assert push(to, app, REGPUSH_QUIET="1").stderr == ""
    wrong = regpush(app, "--to", "127.0.0.1:1/x", "-q", "--retry-times", "0")
    assert len(wrong.failed(5).stderr.splitlines()) == 1
    regpush(app, "--to", to, "-q", "-v").failed(2, "-q", "-v")


def test_verbose_says_what_was_decided_and_why(
    docker_registry_htpasswd: Registry, repository: str, app: Path
) -> None:
    registry = docker_registry_htpasswd
    to = f"{registry.host}/{repository}"
    entry = base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
    auth = json.dumps({"auths": {registry.host: {"auth": entry}}})
    said = push(to, app, "-v", REGPUSH_AUTH=auth).stderr.splitlines()
    assert f"{app} is a directory: 6 items, 16.0 MB" in said
    assert f"credentials for {registry.host}: user 'alice' from REGPUSH_AUTH" in said
    assert "plan: 5 layers, 16.0 MB before compression" in said
    assert re.search(r"layer 1/5 \S+: uploaded \S+ MB, because: no previous image", "\n".join(said))
    assert any(line.startswith(f"{to}:latest now names sha256:") for line in said)
    assert not any(line.startswith(("GET ", "PUT ", "POST ", "HEAD ")) for line in said)
    again = push(to, app, REGPUSH_AUTH=auth, REGPUSH_VERBOSE="1").stderr
    assert re.search(r"^layer 1/5 \S+: reused|Unchanged", again, re.MULTILINE)


def test_very_verbose_has_a_line_for_each_request(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    to = f"{docker_registry.host}/{repository}"
    done = push(to, app, "-vv", "--format", "json")
    line = re.compile(
        rf"^(GET|HEAD|POST|PUT|PATCH|DELETE) http://{docker_registry.host}/v2/\S+: "
        r"(\d{3}), ([\d.]+ \w+ sent, )?([\d.]+ \w+ received, )?\d+ ms$",
        re.MULTILINE,
    )
    found = line.findall(done.stderr)
    # Sessions that nobody took are deleted when the report is made already.
    assert len([one for one in found if one[0] != "DELETE"]) >= done.report["requests"] > 10
    sent = [one for one in found if one[0] == "PUT" and one[2].startswith("1.0 MB")]
    assert len(sent) == 2
    # Who knows the state of an upload can go on with it.
    assert "_state=***" in done.stderr
    assert not re.search(r"_state=(?!\*\*\*)", done.stderr)


def listening(how: Progress, voice: Voice, events: list[Event]) -> str:
    stream = io.StringIO()
    with progress.showing(how, voice, stream) as notify:
        for event in events:
            notify(event)
    return stream.getvalue()


PLANNED = LayersPlanned(labels=("base", "app"), sizes=(1_000_000_000, 10_000))


def test_a_silent_log_hears_that_the_push_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    log = progress._Log(Voice.USUAL, stream, Renderer())
    now = log._began
    log.tick(now + 5)
    assert stream.getvalue() == ""
    log.tick(now + 13)
    assert stream.getvalue() == "still working: reading the target and the registry (0:13)\n"
    log.hear(PLANNED)
    log.hear(LayerProgress(index=0, read=200_000_000, total=1_000_000_000, packed=80_000_000))
    for second in range(13):
        log.hear(LayerSent(index=0, sent=8_000_000 * min(second + 1, 10), size=None))
        log.tick(now + 14 + second)
    last = stream.getvalue().splitlines()[-1]
    assert last.startswith("layer 1/2 base: sent 80.0 MB of about 400 MB; ")
    assert last.endswith(" left in all")
    assert not CONTROL.search(stream.getvalue())


def test_layers_of_bases_are_one_line_of_a_log() -> None:
    labels = ("app", "debian:12 (aaaa)", "debian:12 (bbbb)", "debian:12 (aaaa)", "debian:12 (cc)")
    stream = io.StringIO()
    log = progress._Log(Voice.USUAL, stream, Renderer())
    log.hear(LayersPlanned(labels=labels, sizes=(5, 30, 20, 30, 10), of_bases=4))
    log.hear(LayerDone(index=1, action=Action.MOUNTED, size=30, why="part of debian:12"))
    log.hear(LayerDone(index=2, action=Action.UPLOADED, size=20, why="part of debian:12"))
    log.hear(LayerDone(index=0, action=Action.UPLOADED, size=4, why="new"))
    assert stream.getvalue() == "layer 1/1 app: uploaded 4 B\n"
    log.hear(LayerDone(index=4, action=Action.REUSED, size=10, why="part of debian:12"))
    last = stream.getvalue().splitlines()[-1]
    assert last == "3 layers of the base: 1 uploaded 20 B, 1 mounted 30 B"


def test_one_thing_is_not_written_in_the_plural() -> None:
    stream = io.StringIO()
    log = progress._Log(Voice.USUAL, stream, Renderer())
    log.hear(TargetResolved(target="./app", kind="program", items=1, size=7))
    log.hear(LayersPlanned(labels=("app", "debian:12 (aaaa)"), sizes=(5, 30), of_bases=1))
    log.hear(LayerDone(index=1, action=Action.MOUNTED, size=30, why="of debian:12"))
    assert stream.getvalue().splitlines() == [
        "./app: program, 1 item, 7 B",
        "1 layer of the base: 1 mounted 30 B",
    ]


def test_levels() -> None:
    events: list[Event] = [
        Note(message="a note"),
        Warned(message="a warning"),
        PLANNED,
        LayerDone(index=0, action=Action.REUSED, size=5, why="same as in latest"),
        Exchanged(method="GET", url="u", status=None, sent=0, received=0, seconds=1, failure="cut"),
    ]
    assert listening(Progress.PLAIN, Voice.QUIET, events) == ""
    assert listening(Progress.NONE, Voice.USUAL, events) == "regpush: warning: a warning\n"
    usual = "note: a note\nwarning: a warning\n"
    assert listening(Progress.PLAIN, Voice.USUAL, events) == usual
    decided = listening(Progress.PLAIN, Voice.DECISIONS, events)
    assert decided.startswith(usual)
    assert "layer 1/2 base: reused 5 B, because: same as in latest\n" in decided
    assert "GET" not in decided
    assert "GET u: cut, 1000 ms\n" in listening(Progress.PLAIN, Voice.REQUESTS, events)


def test_what_is_left_is_known_better_and_better() -> None:
    board = Board()
    board.take(PLANNED)
    # By what is usual, 0.4.
    assert board.left == pytest.approx(400_000_000, rel=0.01)
    board.take(LayerProgress(index=0, read=500_000_000, total=1_000_000_000, packed=300_000_000))
    assert board.left == pytest.approx(600_000_000, rel=0.01)
    board.take(LayerSent(index=0, sent=100_000_000, size=None))
    assert board.left == pytest.approx(500_000_000, rel=0.01)
    board.take(LayerSent(index=0, sent=100_000_000, size=200_000_000))
    assert board.left == pytest.approx(100_000_000, rel=0.01)
    # The connection broke, and it begins anew: what went in vain is not taken back.
    board.take(LayerSent(index=0, sent=1_000_000, size=200_000_000))
    assert board.moved == 100_000_000
    assert board.left == pytest.approx(199_000_000, rel=0.01)
    board.take(LayerDone(index=0, action=Action.UPLOADED, size=200_000_000, why=""))
    assert board.left < 10_000
    assert board.flights == {}
    # The registry lost it.
    board.take(LayerSent(index=0, sent=5, size=None))
    assert board.flights.keys() == {0}
    assert board.finished == {}


def test_layers_that_become_known_one_by_one() -> None:
    board = Board()
    board.take(LayersPlanned(labels=("etc",), sizes=(10,)))
    board.take(LayerSent(index=0, sent=4, size=8))
    board.take(LayersPlanned(labels=("etc", "usr"), sizes=(10, 20)))
    board.take(LayerSent(index=0, sent=8, size=8))
    assert board.moved == 8
    board.take(LayerDone(index=0, action=Action.UPLOADED, size=8, why=""))
    board.take(LayersPlanned(labels=("etc", "usr", "var"), sizes=(10, 20, 30)))
    assert board.finished.keys() == {0}
    board.take(LayersPlanned(labels=("lib",), sizes=(1,)))
    assert not board.finished


def test_rates() -> None:
    meter = Meter()
    assert meter.rate is None
    for second in range(30):
        meter.note(float(second), 1000 * second if second < 20 else 19000 + (second - 19) * 10)
    assert meter.rate == pytest.approx(10)


@pytest.mark.parametrize("width", range(20, 201, 9))
def test_the_line_about_the_whole_fits(width: int) -> None:
    board = Board()
    board.take(PLANNED)
    board.take(LayerDone(index=1, action=Action.REUSED, size=123_000_000, why=""))
    board.take(LayerSent(index=0, sent=123_456_789, size=987_654_321))
    line = totals(board, 12_345_678.0, 3723.0, width)
    assert len(line) <= width or line == "sent 123 MB"
    if width > 90:
        assert line == (
            "1 reused (123 MB), sent 123 MB, ~864 MB left, 12.3 MB/s, 1:02:03, ~1:10 to go"
        )


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("named", ["numpy", "numpy-2.5.5 and some more", "数値計算", "x" * 99])
def test_a_bar_lies_beside_the_longest_label(width: int, named: str) -> None:
    """In a wide window a bar at its other end would be hard to tell from those of other layers."""
    board = Board()
    board.take(LayersPlanned(labels=("app", named), sizes=(1000, 1000)))
    board.take(LayerProgress(index=0, read=500, total=1000, packed=100))
    shown = io.StringIO()
    console = Console(file=shown, width=width, force_terminal=True, no_color=True)
    console.print(picture_of(board, None, 1.0, width - 1, 20))
    first = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue()).splitlines()[0]
    bar = min(max((width - 1) // 4, 6), 30)
    assert first.index("━") == min(cell_len(named), width - 1 - bar - 18 - 2) + 1
    assert cell_len(first) <= width


@pytest.mark.parametrize(
    ("environ", "terminal", "coloured"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"CLICOLOR_FORCE": "1"}, False, True),
        ({"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, False, False),
        ({"TERM": "xterm", "CLICOLOR": "0"}, True, False),
    ],
)
def test_colours(environ: dict[str, str], terminal: bool, coloured: bool) -> None:
    assert colour.wanted(environ, terminal=terminal) is coloured


def test_forced_colours_in_a_log_are_no_bars(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    said = push(f"{docker_registry.host}/{repository}", app, FORCE_COLOR="1").stderr
    assert re.search(r"layer 1/5 \S+: \x1b\[32muploaded\x1b\[0m", said)
    assert not CONTROL.search(re.sub(r"\x1b\[[\d;]*m", "", said))
