"""The benchmarks' own instruments: what they count is what crossed, what they delay is late."""

import http.client
import json
import math
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.bench import measure
from tests.bench.link import Link, Shape
from tests.patience import HANG_S, wait_until
from tests.program import ROOT, environment
from tests.registry.parts import real_part
from tests.registry_client.front import Answer, front


@pytest.fixture(scope="module")
def link():
    with Link() as running:
        yield running


@pytest.fixture
def server():
    with front(lambda asked: Answer(200, body=b"x" * 1000)) as running:
        yield running


def counted(link, work, *, settle_s=0.05):
    """What crossed during `work`."""
    before = link.counts()
    work()
    time.sleep(settle_s)
    return link.counts().since(before)


def least_s(work, enough_s):
    """The least seconds that `work` took, of many times or until below `enough_s`.

    Other work on the machine only adds.
    """
    least = math.inf
    for _ in range(100):
        begin = time.perf_counter()
        work()
        least = min(least, time.perf_counter() - begin)
        if least < enough_s:
            break
    return least


def asking(host, *, method="GET", body=b"", times=1):
    """Requests over one new connection; a body that is an iterator is sent in chunks."""
    connection = http.client.HTTPConnection(host, timeout=HANG_S)
    for _ in range(times):
        connection.request(method, "/path", body)
        assert len(connection.getresponse().read()) == 1000
    connection.close()


def test_every_request_is_counted_and_nothing_inside_a_body_is(link, server):
    link.shape(Shape())
    host = link.forward(server.host)
    body = b"0123456789GET /not-a-request HTTP/1.1\r\n\r\n" * 10_000

    def work():
        asking(host, times=3)
        asking(host, method="PUT", body=body)
        asking(host, method="PATCH", body=iter([body[:10], body[10:]]))

    counts = counted(link, work)
    assert counts.methods == {"GET": 3, "PUT": 1, "PATCH": 1}
    assert counts.connections == 3
    assert 2 * len(body) < counts.bytes_up < 2 * len(body) + 2000
    assert 5 * 1000 < counts.bytes_down < 5 * 1000 + 2000
    assert [asked.body for asked in server.asked[3:]] == [body, body]


def test_a_round_trip_is_as_long_as_asked_and_a_connection_costs_one_more(link, server):
    host = link.forward(server.host)
    link.shape(Shape(rtt_ms=40))
    once_s = least_s(lambda: asking(host), 0.240)
    thrice_s = least_s(lambda: asking(host, times=3), 0.480)
    assert 0.080 <= once_s < 0.240
    assert 0.160 <= thrice_s < 0.480


def test_connections_share_the_rate_and_take_turns(link, server):
    host = link.forward(server.host)
    link.shape(Shape(up_mbit=8))
    before, begin = link.counts(), time.perf_counter()
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(asking, host, method="PUT", body=bytes(2_000_000)) for _ in range(2)]
        wait_until(lambda: link.counts().since(before).bytes_up, "the first bytes")
        asking(host)
        left = [one for one in both if not one.done()]
        [one.result() for one in both]
    assert time.perf_counter() - begin >= 4  # 4 MB at 1 MB/s
    assert left == both


def test_a_server_that_is_not_there_is_no_connection(link):
    host = link.forward("127.0.0.1:1")
    with pytest.raises(OSError):
        asking(host)


def test_costs_are_those_of_the_commands_and_their_children(tmp_path):
    spin = "import time\nwhile time.process_time() < .3: pass\nx = bytearray(60_000_000)"
    command = ["sh", "-c", f'"{sys.executable}" -c "{spin}"; true']
    usage = measure.run([command, ["true"]], environment=environment(), directory=tmp_path)
    assert 0.3 <= usage.cpu_s < 10
    assert usage.wall_s >= 0.3
    assert 60e6 < usage.peak_rss < 90e6


def test_a_command_that_fails_says_what_it_said(tmp_path):
    with pytest.raises(measure.CommandFailed, match="no such thing"):
        measure.run(
            [["sh", "-c", "echo no such thing >&2; false"]],
            environment=environment(),
            directory=tmp_path,
        )


def test_a_scenario_prints_its_table(tmp_path):
    real_part("docker-registry")
    raw = tmp_path / "raw.json"
    flags = ["--runs", "1", "--size-mb", "0.3", "--only", "regpush", "--rtt", "5"]
    folders = ["--cache", tmp_path / "cache", "--json", raw]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "start-up", *flags, *map(str, folders)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| regpush")]
    assert [row[0] for row in rows] == ["| regpush", "| regpush --version"]
    (case,) = json.loads(raw.read_text())["cases"]
    ((sample,), (version,)) = case["samples"].values()
    assert sample["requests"] > 0
    assert 0 < sample["bytes_up"] < 10_000
    assert sample["wall_s"] > 0 < version["wall_s"]
    assert version["requests"] == 0
