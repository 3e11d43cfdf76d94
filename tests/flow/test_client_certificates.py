"""Package indexes that ask for a client certificate, told as npm, pnpm, pip and uv are told it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.flow.test_node_lock import lock as node_lock
from tests.program import push
from tests.wheels import Index, make_wheel, serve, write_pylock

BARE = ("--from", "none", "--cmd", "x", "--reuse", "none", "--retry-times", "1")
ALERT = "without a client certificate, or with this one"


@dataclass(frozen=True)
class Guarded:
    """An index that answers only those who have a certificate of `authority`.

    `ca`, `cert`, `key`: files of PEM; `both` has certificate and key. `stranger`: a certificate,
    with its key, of another authority.
    """

    index: Index
    ca: Path
    cert: Path
    key: Path
    both: Path
    stranger: Path

    @property
    def place(self) -> str:
        return self.index.url.removeprefix("https:")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    app = tmp_path / "app"
    app.mkdir()
    return app


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    authority = trustme.CA()
    with serve(folder(tmp_path / "index"), asking(authority)) as index:
        yield certified(index, authority, folder(tmp_path / "pem"))


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def asking(authority: trustme.CA) -> ssl.SSLContext:
    """What a server needs that wants a certificate of `authority`, and has one of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def certified(index: Index, authority: trustme.CA, pem: Path) -> Guarded:
    found = Guarded(
        index, *(pem / name for name in ("ca.pem", "cert.pem", "key.pem", "me.pem", "stranger.pem"))
    )
    authority.cert_pem.write_to_path(str(found.ca))
    mine = authority.issue_cert("me@example.com")
    mine.cert_chain_pems[0].write_to_path(str(found.cert))
    mine.private_key_pem.write_to_path(str(found.key))
    mine.private_key_and_cert_chain_pem.write_to_path(str(found.both))
    other = trustme.CA().issue_cert("me@example.com")
    other.private_key_and_cert_chain_pem.write_to_path(str(found.stranger))
    return found


def inline(path: Path) -> str:
    """PEM as a value of `.npmrc` has it."""
    return path.read_text().strip().replace("\n", "\\n")


def test_npmrc_names_or_contains_a_client_certificate(guarded, app, to):
    node_lock(app, guarded.index)
    at = guarded.place

    def pushed(*lines: str):
        (app / ".npmrc").write_text("\n".join((f"cafile={guarded.ca}", *lines)) + "\n")
        guarded.index.gets.clear()
        return push(f"node:{app}", to, *BARE)

    pushed().failed(3, "fetching ", ALERT, ".npmrc (//HOST/:certfile and //HOST/:keyfile)")
    pushed(f"{at}/:certfile={guarded.stranger}", f"{at}/:keyfile={guarded.stranger}").failed(
        3, ALERT
    )
    pushed(
        f"//npm.example.com/:certfile={guarded.cert}", f"//npm.example.com/:keyfile={guarded.key}"
    ).failed(3, ALERT)
    assert not guarded.index.gets
    for lines in (
        (f"{at}/:certfile={guarded.cert}", f"{at}/:keyfile={guarded.key}"),
        (f"{at}/packages/:certfile=../pem/cert.pem", f"{at}/packages/:keyfile=../pem/key.pem"),
        (f'{at}/:cert="{inline(guarded.cert)}"', f'{at}/:key="{inline(guarded.key)}"'),
        (f"{at}/:certfile={guarded.cert}", f'{at}/:key="{inline(guarded.key)}"'),
        (f'cert="{inline(guarded.cert)}"', f'key="{inline(guarded.key)}"'),
    ):
        done = pushed(*lines).ok()
        assert guarded.index.gets
        assert "warning" not in done.stderr
        assert "PRIVATE KEY" not in done.stderr + done.stdout
    pushed(f"{at}/:certfile=gone.pem", f"{at}/:keyfile={guarded.key}").failed(2, "gone.pem")


def test_an_authority_of_one_registry_is_trusted_there_alone(guarded, app, to):
    node_lock(app, guarded.index)
    at = guarded.place
    identity = f'cert="{inline(guarded.cert)}"\nkey="{inline(guarded.key)}"\n'
    for place, code in ((at, 0), ("//npm.example.com", 4), (f"{at}/elsewhere", 4)):
        (app / ".npmrc").write_text(f"{identity}{place}/:cafile={guarded.ca}\n")
        done = push(f"node:{app}", to, *BARE)
        assert done.code == code, done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("//r.example.com/:certfile=/c", "//r.example.com/:keyfile is missing"),
        ("//r.example.com/:key=x", "//r.example.com/:cert is missing"),
        ("cert=x", "key is missing"),
        ("certfile=/c", "certfile in .npmrc is not used, because it names no registry"),
        ("_authToken=hunter2", "write //HOST/:_authToken"),
        ("_auth=aHVudGVyMg==", "write //HOST/:_auth"),
        ("//r.example.com/:tokenHelper=/bin/hunter2", "which regpush does not run"),
    ],
)
def test_what_npmrc_says_in_vain_is_told(index, app, to, line, said):
    node_lock(app, index)
    (app / ".npmrc").write_text(f"{line}\n")
    done = push(f"node:{app}", to, *BARE).ok()
    assert said in done.stderr
    assert "hunter2" not in done.stderr
    assert "aHVudGVyMg" not in done.stderr
    push(f"node:{app}", to, *BARE, "--strict").failed(2, said)


def test_variables_of_pip_and_uv_name_a_client_certificate(guarded, app, to):
    (app / "main.py").write_text("import one\n")
    write_pylock(app, [make_wheel(guarded.index.folder, "one")], guarded.index.url_of)
    ca = {"PIP_CERT": str(guarded.ca)}

    def pushed(*more: str, **env: str):
        return push(f"python:{app}", to, *BARE, "--python", "3.11", *more, env=env)

    pushed().failed(4, "one 1.0", "certificate of 127.0.0.1 is not trusted")
    pushed(**ca).failed(3, "one 1.0", ALERT, "SSL_CLIENT_CERT or PIP_CLIENT_CERT")
    pushed(**ca, SSL_CLIENT_CERT=str(guarded.stranger)).failed(3, ALERT)
    pushed(**ca, SSL_CLIENT_CERT=str(guarded.ca)).failed(2, "client certificate", guarded.ca.name)
    assert not guarded.index.gets
    for name in ("SSL_CLIENT_CERT", "PIP_CLIENT_CERT"):
        done = pushed(**ca, **{name: str(guarded.both)}).ok()
        assert "warning" not in done.stderr
    host = guarded.index.url.removeprefix("https://")
    for env in (
        {"PIP_TRUSTED_HOST": "other.example 127.0.0.1"},
        {"UV_INSECURE_HOST": f"https://{host}"},
    ):
        done = pushed(SSL_CLIENT_CERT=str(guarded.both), **env).ok()
        assert "127.0.0.1" in done.stderr
        assert "are not verified" in done.stderr
        pushed("--strict", SSL_CLIENT_CERT=str(guarded.both), **env).failed(2, "not verified")
    other = {"UV_INSECURE_HOST": "127.0.0.1:1"}
    pushed(SSL_CLIENT_CERT=str(guarded.both), **other).failed(4, "is not trusted")


def test_a_client_certificate_is_not_presented_where_an_index_leads(guarded, app, to, tmp_path):
    """The lock names the first server; what that one answers must not choose who learns of me."""
    (app / "main.py").write_text("import one\n")
    wheel = make_wheel(guarded.index.folder, "one")
    env = {"PIP_CERT": str(guarded.ca), "SSL_CLIENT_CERT": str(guarded.both)}
    with serve(folder(tmp_path / "first")) as first:
        first.answers[wheel.path.name] = [(302, {"Location": guarded.index.url_of(wheel)})] * 2
        write_pylock(app, [wheel], first.url_of)
        push(f"python:{app}", to, *BARE, "--python", "3.11", env=env).failed(3, ALERT)
        assert not guarded.index.gets
