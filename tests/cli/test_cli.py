"""The command line as its user meets it: outputs, exit codes, one line for each mistake."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from regpush import __version__
from tests.flow.test_push_directory import app, has_tag, write
from tests.patience import HANG_S
from tests.program import environment, push, regpush
from tests.registry.wire import AfterCut

__all__ = ["app"]


def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--to"]),
        (["--to", "localhost:1/App"], ["lower case"]),
        (["--to", "localhost:1/app:"], ["tag"]),
        (["--to", "https://localhost:1/app"], ["scheme"]),
        (["--to", "localhost:1/app@sha256:" + "0" * 64], ["digest"]),
        (["--to", "localhost:1/app", "-t", "a b"], ["bad tag"]),
        (["--to", "localhost:1/app", "--nonsense"], ["--nonsense"]),
        (["--to", "localhost:1/app", "--layers", "stabel"], ["stable"]),
        (["--to", "localhost:1/app", "--max-layers", "0"], ["127"]),
        (["--to", "localhost:1/app", "--max-layers", "128"], ["127"]),
        (["--to", "localhost:1/app", "--max-layers", "many"], ["--max-layers"]),
        (["--to", "localhost:1/app", "--compression", "xz"], ["xz"]),
        (["--to", "localhost:1/app", "--reuse", "some"], ["some"]),
        (["--to", "localhost:1/app", "-e", "NOVALUE"], ["--env", "NOVALUE"]),
        (["--to", "localhost:1/app", "--expose", "http"], ["http"]),
        (["--to", "localhost:1/app", "--workdir", "here"], ["absolute"]),
        (["--to", "localhost:1/app", "--entrypoint", "'open"], ["--entrypoint"]),
        (["--to", "localhost:1/app", "--platform", "amd64"], ["linux/amd64"]),
        (["--to", "localhost:1/app", "--stop-signal", "OH NO"], ["expected one such as SIGTERM"]),
        (["--to", "localhost:1/app", "--nix-option", 'a "b'], ["a quote is not closed"]),
        (["--to", "localhost:1/app", "--nix-option", "a b\\"], ["ends in a backslash"]),
        (["--to", "localhost:1/app", "--nix-option", " "], ["NAME VALUE"]),
        (["--to", "localhost:1/app", "--nix-option", "cores 1 2"], ["takes 1 value, 2 given"]),
        (["--to", "localhost:1/app", "--nix-option", "--arg a"], ["takes 2 values, 1 given"]),
        (["--to", "localhost:1/app", "-S", "/bin"], ["--symlink", "SOURCE=TARGET"]),
        (["--to", "localhost:1/app", "-l", "a"], ["--label", "KEY=VALUE"]),
        (["--to", "localhost:1/app", "-a", "a"], ["--annotation", "KEY=VALUE"]),
        (["--to", "localhost:1/app", "--username", "me"], ["--password-stdin"]),
        (["--to", "localhost:1/app", "--root-dir", "relative"], ["relative"]),
        (["--to", "localhost:1/app", "--root-dir", "/a/../b"], ["/a/../b"]),
    ],
    ids=lambda value: "-".join(map(str, value))[:40],
)
def test_wrong_arguments(app, arguments, words):
    regpush(app, *arguments).failed(2, *words)


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("nowhere", "nowhere"),
        ("dir:nowhere", "nowhere"),
        ("guix:hello", "guix:"),
        ("", "''"),
    ],
)
def test_unknown_targets(target, word):
    regpush(target, "--to", f"127.0.0.1:{unused_port()}/app").failed(2, word)


def test_a_wrong_environment(app):
    to = f"127.0.0.1:{unused_port()}/app"
    regpush(app, "--to", to, env={"SOURCE_DATE_EPOCH": "now"}).failed(2, "SOURCE_DATE_EPOCH")


def test_a_registry_that_is_not_there(app):
    port = unused_port()
    done = regpush(app, "--to", f"127.0.0.1:{port}/app", "--retry-times", "0")
    done.failed(5, f"127.0.0.1:{port}")


def test_wrong_credentials(docker_registry_htpasswd, repository, app, tmp_path):
    registry = docker_registry_htpasswd
    to = f"{registry.host}/{repository}"
    push(app, to).failed(3, to)
    wrong = push(app, to, "--username", registry.username, "--password-stdin", stdin="wrong\n")
    wrong.failed(3, to)
    assert "wrong\n" not in wrong.stderr
    right = ["--username", registry.username, "--password-stdin"]
    push(app, to, *right, stdin=registry.password + "\n").ok()


def test_wrong_credentials_do_not_wait_for_a_large_directory(
    docker_registry_htpasswd, repository, tmp_path
):
    """The registry is asked while the directory is read: its no ends the reading."""
    root = tmp_path / "app"
    for number in range(400):
        os.truncate(write(root / f"{number}"), 1 << 30)
    to = f"{docker_registry_htpasswd.host}/{repository}"
    # Reading 400 GiB takes longer.
    push(root, to, timeout=HANG_S).failed(3, repository)


def test_credentials_of_docker_login(docker_registry_htpasswd, repository, app, tmp_path):
    import base64

    registry = docker_registry_htpasswd
    login = base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
    config = write(
        tmp_path / "docker" / "config.json", json.dumps({"auths": {registry.host: {"auth": login}}})
    )
    to = f"{registry.host}/{repository}"
    env = {"DOCKER_CONFIG": str(config.parent)}
    push(app, to, env=env).ok()
    assert regpush("inspect", to, env=env).ok().stdout.startswith(to)
    config.write_text("{ broken")
    push(app, to, env=env).failed(2, str(config))


def test_tls(docker_registry_tls, repository, app):
    registry = docker_registry_tls
    to = f"{registry.host}/{repository}"
    push(app, to, "--ca-file", registry.ca_file).ok()
    push(app, to, env={"SSL_CERT_FILE": str(registry.ca_file)}).ok()
    done = push(app, to, "--retry-times", "0")
    done.failed(4, "--ca-file")


def test_inspect(docker_registry, repository, app):
    to = f"{docker_registry.host}/{repository}"
    pushed = push(app, f"{to}:v1", "-e", "A=b", "--cmd", "x 'y z'").ok().report
    seen = regpush("inspect", f"{to}:v1", "--format", "json").ok().report
    assert seen["digest"] == pushed["digest"]
    assert seen["config"] == {"Env": ["A=b"], "Cmd": ["x", "y z"], "WorkingDir": "/app"}
    of = pushed["images"][0]["layers"]
    assert [layer["recipe"] for layer in seen["layers"]] == [layer["recipe"] for layer in of]
    assert [layer["items"] for layer in seen["layers"]] == [layer["items"] for layer in of]
    text = regpush("inspect", seen["ref"]).ok().stdout
    assert text.splitlines()[0] == seen["ref"]
    regpush("inspect", f"{to}:v2").failed(4, f"{to}:v2")


def test_reports_on_disk(docker_registry, repository, app, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    files = ["--metadata-file", tmp_path / "meta", "--digest-file", tmp_path / "digest"]
    done = regpush(app, "--to", to, *files).ok()
    report = json.loads((tmp_path / "meta").read_text())
    assert done.stdout == report["ref"] + "\n"
    assert (tmp_path / "digest").read_text() == report["digest"] + "\n"
    assert report["schema"] == 1
    layers = report["images"][0]["layers"]
    assert report["bytes"]["uploaded"] >= sum(layer["size"] for layer in layers)
    assert report["requests"] > 3
    layer = layers[0]
    assert set(layer) == {
        "label", "digest", "media_type", "size", "diff_id", "uncompressed_size", "recipe",
        "items", "action", "why",
    }  # fmt: skip


def test_a_report_that_cannot_be_written_is_refused_before_the_push(
    docker_registry, repository, app, tmp_path
):
    to = f"{docker_registry.host}/{repository}"
    for flag in ("--metadata-file", "--digest-file"):
        regpush(app, "--to", to, flag, tmp_path / "no" / "x").failed(2, "no/x")
    assert not has_tag(docker_registry, repository, "latest")


@pytest.mark.parametrize("where", [">/dev/full", ">&-", "2>&-", "2>/dev/full"])
def test_outputs_that_are_full_or_closed(docker_registry, repository, app, where):
    to = f"{docker_registry.host}/{repository}"
    command = f"exec '{sys.executable}' -m regpush '{app}' --to {to} --no-cache {where}"
    done = subprocess.run(["sh", "-c", command], env=environment(), capture_output=True, text=True)
    assert "bug of regpush" not in done.stderr
    assert done.returncode == (2 if where == ">/dev/full" else 0)
    assert has_tag(docker_registry, repository, "latest")
    if where.startswith("2"):
        assert done.stdout.startswith(f"{to}@sha256:")


def test_nobody_has_to_hear_how_it_goes(docker_registry, repository, app):
    """Whoever stops reading stderr ends no push, nor takes the result away."""
    to = f"{docker_registry.host}/{repository}"
    command = f"'{sys.executable}' -m regpush '{app}' --to {to} --no-cache -vv 2> >(head -n 1 >&2)"
    done = subprocess.run(
        ["bash", "-c", command], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith(f"{to}@sha256:")


def test_an_output_that_cannot_say_everything(docker_registry, repository, app):
    write(app / "node_modules" / "日本語" / "index.js", "x" * 300_000)
    to = f"{docker_registry.host}/{repository}"
    env = {"PYTHONIOENCODING": "latin-1"}
    assert "\\u65e5" in regpush("plan", app, "--to", to, env=env).ok().stdout


def test_flags_from_the_environment(docker_registry, repository, app):
    to = f"{docker_registry.host}/{repository}"
    env = {
        "REGPUSH_TO": to,
        "REGPUSH_TAG": "one\ntwo words".replace(" words", ""),
        "REGPUSH_ENV": "A=1 2\nB=3",
        "REGPUSH_MAX_LAYERS": "1",
        "REGPUSH_NO_CACHE": "1",
        "REGPUSH_FORMAT": "json",
    }
    done = regpush(app, env=env).ok()
    assert done.report["destinations"][0]["tags"] == ["one", "two"]
    assert len(done.actions) == 1
    seen = regpush("inspect", f"{to}:two", "--format", "json").ok().report
    assert seen["config"]["Env"] == ["A=1 2", "B=3"]
    assert len(regpush(app, "--max-layers", "64", env=env).ok().actions) > 1
    regpush(app, env={**env, "REGPUSH_MAX_LAYERS": "x"}).failed(2, "x")


def test_source_date_epoch_touches_no_layer(docker_registry, repository, app):
    to = f"{docker_registry.host}/{repository}"
    first = push(app, to, env={"SOURCE_DATE_EPOCH": "1700000000"}).ok()
    second = push(app, to, env={"SOURCE_DATE_EPOCH": "1700000001"}).ok()
    assert set(second.actions) == {"reused"}
    assert second.report["digest"] != first.report["digest"]
    seen = regpush("inspect", to, "--format", "json").ok().report
    assert seen["created"] == "2023-11-14T22:13:21Z"


def test_a_target_named_like_a_command(docker_registry, repository, app, tmp_path):
    (tmp_path / "plan").symlink_to(app)
    regpush("push", "plan", "--to", f"{docker_registry.host}/{repository}", cwd=tmp_path).ok()


def test_version_and_help():
    assert regpush("--version").ok().stdout == f"regpush {__version__}\n"
    for arguments in ([], ["--help"], ["push", "--help"], ["plan", "-h"], ["inspect", "--help"]):
        assert "Usage" in regpush(*arguments).ok().stdout


def test_serve_is_a_registry_until_it_is_stopped(app, tmp_path):
    port = unused_port()
    with subprocess.Popen(
        [sys.executable, "-m", "regpush", "serve", "--port", str(port), "--dir", tmp_path / "r"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as serving:
        try:
            assert f"127.0.0.1:{port}" in serving.stderr.readline()
            push(app, f"127.0.0.1:{port}/app").ok()
            taken = regpush("serve", "--port", port, "--dir", tmp_path / "s")
            taken.failed(2, str(port))
        finally:
            serving.send_signal(signal.SIGINT)
            rest = serving.stderr.read()
    assert serving.returncode == 130
    assert rest == f"regpush: stopped; {tmp_path / 'r'} keeps what was pushed\n"


def test_no_progress_at_all(docker_registry, repository, app):
    to = f"{docker_registry.host}/{repository}"
    done = regpush(app, "--to", to, "--progress", "none", "--entrypoint", "")
    assert done.ok().stderr == ""


def test_live_progress_on_a_terminal(docker_registry, repository, app):
    """Bars and table on a terminal; stdout stays a single line in a pipe."""
    import pty

    master, slave = pty.openpty()
    to = f"{docker_registry.host}/{repository}"
    with subprocess.Popen(
        [sys.executable, "-m", "regpush", str(app), "--to", to, "--no-cache"],
        stdout=subprocess.PIPE,
        stderr=slave,
        env=environment(TERM="xterm", COLUMNS="120"),
        text=True,
    ) as running:
        os.close(slave)
        seen = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            if not part:
                break
            seen += part
        out = running.stdout.read()
    os.close(master)
    assert running.returncode == 0
    assert out.startswith(to)
    assert b"uploaded" in seen


@pytest.fixture
def large(tmp_path):
    """Enough incompressible bytes that a push can be met half-way."""
    root = tmp_path / "large"
    for number in range(4):
        write(root / f"blob{number}", os.urandom(16_000_000))
    return root


def test_a_server_that_stops_half_way(docker_registry, repository, large, wire):
    proxy = wire(docker_registry, cut_after_up=20_000_000, after_cut=AfterCut.STOP)
    done = push(large, f"{proxy.host}/{repository}", "--retry-times", "1")
    done.failed(5, proxy.host)
    assert not has_tag(docker_registry, repository, "latest")
    # The manifests name no host: a second run through another door finishes the job.
    push(large, f"{docker_registry.host}/{repository}").ok()


def test_a_connection_that_is_cut_once_is_made_again(docker_registry, repository, large, wire):
    proxy = wire(docker_registry, cut_after_up=20_000_000)
    push(large, f"{proxy.host}/{repository}").ok()
    assert has_tag(docker_registry, repository, "latest")


def into_a_closed_pipe(*arguments) -> subprocess.CompletedProcess:
    """Run regpush with a stdout that nobody reads on, as after the first line of `| head -1`."""
    reads, writes = os.pipe()
    os.close(reads)
    try:
        return subprocess.run(
            [sys.executable, "-m", "regpush", *map(str, arguments)],
            stdout=writes,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
            timeout=HANG_S,
        )
    finally:
        os.close(writes)


@pytest.mark.parametrize("flags", [[], ["--format", "json"]])
def test_a_push_into_a_closed_pipe_is_whole(docker_registry, repository, app, tmp_path, flags):
    to, report = f"{docker_registry.host}/{repository}", tmp_path / "report.json"
    flags = ["--no-cache", "--progress", "none", "--entrypoint", "", *flags]
    done = into_a_closed_pipe(app, "--to", to, "--metadata-file", report, *flags)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")
    assert has_tag(docker_registry, repository, "latest")
    assert json.loads(report.read_text())["changed"] is True
    copied = into_a_closed_pipe(
        "copy", to, f"{to}:copy", "--progress", "none", "--digest-file", tmp_path / "digest"
    )
    assert (copied.returncode, copied.stderr) == (-signal.SIGPIPE, "")
    assert (tmp_path / "digest").read_text() == json.loads(report.read_text())["digest"] + "\n"


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["push", "--help"], ["schema"], ["config", "-q"]]
)
def test_a_closed_pipe_ends_commands_as_it_ends_others(arguments):
    done = into_a_closed_pipe(*arguments)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


def test_the_first_line_alone(docker_registry, repository, app):
    """With `pipefail` a good push whose only line is read is a good push."""
    to = f"{docker_registry.host}/{repository}"
    line = f"set -o pipefail; '{sys.executable}' -m regpush '{app}' --to {to} --no-cache | head -1"
    done = subprocess.run(["bash", "-c", line], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith(f"{to}@sha256:")


@pytest.mark.parametrize("threads", [0, 1, 2, 4, 8])
def test_a_machine_that_gives_no_more_threads(docker_registry, repository, tmp_path, threads):
    """Each stack takes 1 GB of addresses; 0.9 GB beside the stacks of `threads` are enough.

    So one more thread cannot be started, while nothing else lacks memory.
    """
    for number in range(20):
        write(tmp_path / "app" / f"file{number}", os.urandom(600_000))
    to = f"{docker_registry.host}/{repository}"
    line = (
        f"ulimit -s 1000000; ulimit -v {threads * 1_000_000 + 900_000}; "
        f"exec '{sys.executable}' -m regpush '{tmp_path / 'app'}' --to {to} "
        "-j 16 --no-cache --layers size"
    )
    done = subprocess.run(
        ["bash", "-c", line], env=environment(), capture_output=True, text=True, timeout=HANG_S
    )
    assert done.returncode == 2, done.stderr
    assert "no more threads or memory: lower --jobs" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not has_tag(docker_registry, repository, "latest")
