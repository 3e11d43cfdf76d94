"""Certificates: whom regpush believes, and who it is, against servers that check."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from regpush.errors import RefusedError, UsageError
from regpush.http import ahead
from regpush.http.trust import ClientCertificate, Trust, secured
from regpush.options import RegistryOptions
from regpush.reference import Reference
from regpush.registry.repository import Access
from regpush.settings import Settings
from tests.flow.test_push_directory import app
from tests.patience import HANG_S
from tests.program import PATIENT, Outcome, push, regpush
from tests.registry.servers import Registry
from tests.registry.wire import StartProxy
from tests.registry_client.front import Answer, Asked, Front, front, pass_on
from tests.registry_client.opening import opened

__all__ = ["app"]


# Where certificates are looked for.


def folder(root: Path, name: str, *files: str) -> Path:
    path = root / name
    path.mkdir(parents=True)
    for file in files:
        (path / file).write_text("")
    return path


def trust(registry: str, *roots: Path, **options: object) -> Trust:
    made = RegistryOptions(**options)  # type: ignore[arg-type]  # keywords of the record
    return Trust.of(registry, made, [str(root) for root in roots])


def test_the_places_of_certificates() -> None:
    def places(**environ: str) -> tuple[str, ...]:
        return Settings.from_environ(environ).certificate_dirs

    system = ("/etc/containers/certs.d", "/etc/docker/certs.d")
    assert places() == system
    assert places(HOME="/h") == ("/h/.config/containers/certs.d", *system)
    assert places(HOME="/h", XDG_CONFIG_HOME="/x") == ("/x/containers/certs.d", *system)
    got = Settings.from_environ({"SSL_CERT_FILE": "/f", "SSL_CERT_DIR": "/d"})
    assert (got.ca_file, got.ca_dir) == ("/f", "/d")


def test_the_first_folder_that_is_there(tmp_path: Path) -> None:
    one, two, three = tmp_path / "1", tmp_path / "2", tmp_path / "3"
    folder(one, "other.example", "wrong.crt")
    own = folder(two, "r.example:5000", "b.crt", "a.crt", "readme", "me.cert", "me.key")
    folder(three, "r.example:5000", "late.crt")
    assert trust("r.example:5000", one, two, three) == Trust(
        ca_files=(f"{own}/a.crt", f"{own}/b.crt"),
        identities=(ClientCertificate(cert_file=f"{own}/me.cert", key_file=f"{own}/me.key"),),
    )
    assert trust("r.example", one, two, three) == Trust()
    assert not trust("r.example", one, two, three).means_tls


@pytest.mark.parametrize(
    ("registry", "name"),
    [("r.example", "r.example:443"), ("r.example:443", "r.example"), ("[::1]", "[::1]:443")],
)
def test_the_usual_port_may_be_left_out(tmp_path: Path, registry: str, name: str) -> None:
    folder(tmp_path, name, "ca.crt")
    assert trust(registry, tmp_path).ca_files


@pytest.mark.parametrize("half", ["me.cert", "me.key"])
def test_half_a_pair(tmp_path: Path, half: str) -> None:
    folder(tmp_path, "r.example", half)
    with pytest.raises(UsageError, match="which does not exist") as caught:
        trust("r.example", tmp_path)
    assert "me.cert" in str(caught.value)
    assert "me.key" in str(caught.value)


def test_flags_go_before_folders(tmp_path: Path) -> None:
    own = folder(tmp_path, "r.example", "ca.crt", "me.cert", "me.key")
    both = trust("r.example", tmp_path, ca_file="/flag.pem", cert_file="/c.pem", key_file="/k.pem")
    assert both.ca_files == ("/flag.pem", f"{own}/ca.crt")
    assert both.identities == (ClientCertificate(cert_file="/c.pem", key_file="/k.pem"),)
    assert trust("r", cert_file="/c").identities == (
        ClientCertificate(cert_file="/c", key_file="/c"),
    )
    with pytest.raises(UsageError, match="--cert-file"):
        trust("r.example", key_file="/k.pem")


# Whom regpush believes.


def failed_to_trust(done: Outcome) -> None:
    done.failed(4, "--ca-file")


def test_the_systems_certificates_can_be_others(
    docker_registry_tls: Registry, repository: str, app: Path, tmp_path: Path
) -> None:
    to = f"{docker_registry_tls.host}/{repository}"
    assert docker_registry_tls.ca_file is not None
    push(app, to, env={"SSL_CERT_FILE": str(docker_registry_tls.ca_file)}).ok()
    hashed = tmp_path / "hashed"
    hashed.mkdir()
    shutil.copy(docker_registry_tls.ca_file, hashed / f"{subject_hash(docker_registry_tls)}.0")
    push(app, to, env={"SSL_CERT_DIR": f"{tmp_path}/absent:{hashed}"}).ok()
    failed_to_trust(push(app, to, env={"SSL_CERT_DIR": str(tmp_path)}))
    push(app, to, env={"SSL_CERT_FILE": "/nowhere.pem"}).failed(2, "/nowhere.pem", "no such file")


def subject_hash(registry: Registry) -> str:
    import subprocess

    command = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(registry.ca_file)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_folder_of_certs_d(
    docker_registry_tls: Registry, repository: str, app: Path, tmp_path: Path
) -> None:
    host = docker_registry_tls.host
    own = folder(tmp_path, f".config/containers/certs.d/{host}")
    assert docker_registry_tls.ca_file is not None
    shutil.copy(docker_registry_tls.ca_file, own / "ca.crt")
    push(app, f"{host}/{repository}", env={"HOME": str(tmp_path)}).ok()
    (own / "ca.crt").write_text("no certificate")
    done = push(app, f"{host}/{repository}", env={"HOME": str(tmp_path)})
    done.failed(2, f"{own}/ca.crt", "no PEM certificates")


@pytest.mark.parametrize("believed", ["root", "between", "server", "other"])
def test_an_authority_below_another_can_be_the_one(
    docker_registry: Registry, repository: str, app: Path, tmp_path: Path, believed: str
) -> None:
    root = trustme.CA()
    between = root.create_child_ca()
    issued = between.issue_cert("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    pems = {
        "root": root.cert_pem,
        "between": between.cert_pem,
        "server": issued.cert_chain_pems[0],
        "other": trustme.CA().cert_pem,
    }
    pems[believed].write_to_path(tmp_path / "ca.pem")
    with front(pass_on(docker_registry.host), tls=context) as running:
        to = f"{running.host}/{repository}"
        done = regpush("inspect", to, "--ca-file", tmp_path / "ca.pem")
    if believed == "other":
        failed_to_trust(done)
    else:
        done.failed(4, f"no such image: {to}")


def test_a_certificate_for_another_host_name(
    docker_registry: Registry, repository: str, tmp_path: Path
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with front(pass_on(docker_registry.host), tls=context) as running:
        to = f"{running.host}/{repository}"
        done = regpush("inspect", to, "--ca-file", tmp_path / "ca.pem")
    done.failed(4, "certificate is not valid for '127.0.0.1'; it is for another host name")


def test_not_verifying_is_warned_about(
    docker_registry_tls: Registry, repository: str, app: Path
) -> None:
    to = f"{docker_registry_tls.host}/{repository}"
    failed_to_trust(push(app, to))
    done = regpush(app, "--to", to, "--insecure-skip-tls-verify", "--progress", "none").ok()
    assert done.stderr.startswith("regpush: warning: the registry's certificate is not verified")
    assert "warning" in regpush("inspect", to, "--insecure-skip-tls-verify").ok().stderr


def test_not_verifying_is_for_the_destination_alone(
    docker_registry: Registry, docker_registry_tls: Registry, repository: str
) -> None:
    there = Reference(registry=docker_registry_tls.host, repository=repository)
    with opened(docker_registry_tls.host, repository, insecure_skip_tls_verify=True) as at:
        assert at.client.repository(there, Access.PULL).get_manifest("latest") is None
        assert "not verified" in at.messages
    with (
        opened("registry.invalid", repository, insecure_skip_tls_verify=True) as at,
        pytest.raises(RefusedError, match="not trusted"),
    ):
        at.client.repository(there, Access.PULL).get_manifest("latest")


def test_not_verifying_is_no_plain_http(docker_registry: Registry, app: Path) -> None:
    done = push(app, f"{docker_registry.host}/app", "--insecure-skip-tls-verify")
    assert done.code == 4
    assert "--plain-http" in done.stderr


# A registry on this machine is asked which of both it speaks, wherever it is named.


@pytest.fixture
def source(docker_registry_tls: Registry, repository: str, app: Path) -> str:
    """An image in a registry that speaks TLS, on loopback."""
    at = f"{docker_registry_tls.host}/{repository}:v1"
    push(app, at, "--ca-file", str(docker_registry_tls.ca_file)).ok()
    return at


@pytest.mark.parametrize("trusted", ["--ca-file", "SSL_CERT_FILE"])
def test_what_a_registry_of_this_machine_speaks_is_found_out(
    docker_registry: Registry,
    docker_registry_tls: Registry,
    repository: str,
    app: Path,
    source: str,
    trusted: str,
) -> None:
    """A source by TLS, found by a HEAD or a GET that is answered 400, and a plain destination."""
    ca_file = str(docker_registry_tls.ca_file)
    flags = ["--ca-file", ca_file, "--plain-http"] if trusted == "--ca-file" else []
    env = {"SSL_CERT_FILE": ca_file} if trusted == "SSL_CERT_FILE" else None
    to = f"{docker_registry.host}/{repository}"
    regpush("copy", source, f"{to}:copy", *flags, env=env).ok()
    regpush("index", f"{to}:index", source, *flags, env=env).ok()
    push(app, f"{to}:based", "--from", source, *flags, env=env).ok()
    regpush("rebase", f"{to}:based", "--from", source, *flags, env=env).ok()


def test_a_plain_source_beside_an_authority_for_the_destination(
    docker_registry: Registry, docker_registry_tls: Registry, repository: str, app: Path
) -> None:
    source, to = f"{docker_registry.host}/{repository}", f"{docker_registry_tls.host}/{repository}"
    flags = ("--ca-file", str(docker_registry_tls.ca_file))
    push(app, source).ok()
    regpush("copy", source, f"{to}:copy", *flags).ok()
    regpush("index", f"{to}:index", source, *flags).ok()
    push(app, f"{to}:based", "--from", source, *flags).ok()


def test_https_where_http_was_said_is_said(
    docker_registry: Registry,
    docker_registry_tls: Registry,
    repository: str,
    app: Path,
    source: str,
) -> None:
    host, to = docker_registry_tls.host, f"{docker_registry.host}/{repository}:v1"
    push(app, f"{host}/{repository}", "--plain-http").failed(
        4, f"{host} speaks https; drop --plain-http"
    )
    regpush("copy", source, to, "--from-plain-http").failed(
        4, f"{host} speaks https; drop --from-plain-http"
    )


def test_a_plain_source_of_another_machine(embedded_registry: Registry, repository: str) -> None:
    """Its name resolves to nothing here: what is asked shows by a proxy."""

    def behaviour(asked: Asked) -> Answer:
        return Answer(404 if asked.target.startswith("http://r.example/v2/") else 500)

    with front(behaviour) as proxy:
        env = {"HTTP_PROXY": proxy.url, "http_proxy": proxy.url}
        flags = ("--from-plain-http", "--retry-times", "0")
        to = f"{embedded_registry.host}/{repository}"
        done = regpush("copy", "r.example/app:v1", to, *flags, env=env)
        done.failed(4, "no such image: r.example/app:v1")


# Who regpush is.


@dataclass
class Guarded:
    """A registry behind TLS that wants certificates of `authority`."""

    front: Front
    ca_file: Path
    authority: trustme.CA


@pytest.fixture
def guarded(docker_registry: Registry, tmp_path: Path) -> Iterator[Guarded]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    registry = pass_on(docker_registry.host)

    def behaviour(asked: Asked) -> Answer:
        asked.headers["x-forwarded-proto"] = "https"
        return registry(asked)

    with front(behaviour, tls=context) as running:
        yield Guarded(running, tmp_path / "ca.pem", authority)


def identity(authority: trustme.CA, directory: Path, name: str = "me") -> tuple[Path, Path]:
    issued = authority.issue_cert("someone@r.example")
    issued.cert_chain_pems[0].write_to_path(directory / f"{name}.cert")
    issued.private_key_pem.write_to_path(directory / f"{name}.key")
    return directory / f"{name}.cert", directory / f"{name}.key"


def test_a_client_certificate_by_flags(
    guarded: Guarded, repository: str, app: Path, tmp_path: Path
) -> None:
    to = f"{guarded.front.host}/{repository}"
    cert, key = identity(guarded.authority, tmp_path)
    trusting = ["--ca-file", guarded.ca_file, "--retry-times", "0"]
    push(app, to, *trusting, "--cert-file", cert, "--key-file", key).ok()
    both = tmp_path / "both.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    regpush("inspect", to, "--ca-file", guarded.ca_file, "--cert-file", both).ok()
    push(app, to, *trusting).failed(3, "--cert-file")
    stranger = identity(trustme.CA(), tmp_path, "stranger")
    shown = ["--cert-file", stranger[0], "--key-file", stranger[1]]
    push(app, to, *trusting, *shown).failed(3, "--cert-file")
    push(app, to, *trusting, "--cert-file", cert, "--key-file", stranger[1]).failed(2, str(cert))
    push(app, to, *trusting, "--cert-file", "/nowhere").failed(2, "/nowhere", "no such file")


def test_a_client_certificate_by_folder(
    guarded: Guarded, repository: str, app: Path, tmp_path: Path
) -> None:
    host = guarded.front.host
    own = folder(tmp_path, f"containers/certs.d/{host}")
    shutil.copy(guarded.ca_file, own / "ca.crt")
    identity(guarded.authority, own)
    identity(trustme.CA(), own, "zzz")  # of several pairs the first is shown
    push(app, f"{host}/{repository}", env={"XDG_CONFIG_HOME": str(tmp_path)}).ok()


def test_a_locked_key_is_not_asked_for(guarded: Guarded, app: Path, tmp_path: Path) -> None:
    cert, key = identity(guarded.authority, tmp_path)
    made = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"pass phrase"),
        )
    )
    flags = ["--ca-file", guarded.ca_file, "--cert-file", cert, "--key-file", key]
    push(app, f"{guarded.front.host}/app", *flags).failed(2, "pass phrase", str(key))


def test_a_client_certificate_is_for_the_registry_alone(
    docker_registry: Registry, repository: str, app: Path, tmp_path: Path
) -> None:
    """Storage elsewhere, though trusted by the same authority, is not told who is asking."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    cert, key = identity(authority, tmp_path)
    contexts = []
    for _ in range(2):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_OPTIONAL
        contexts.append(context)
    registry = pass_on(docker_registry.host)
    to = f"{docker_registry.host}/{repository}"
    digest = push(app, to).ok().report["digest"]

    with front(registry, tls=contexts[1]) as storage:

        def behaviour(asked: Asked) -> Answer:
            if "/blobs/" in asked.target and asked.method == "GET":
                return Answer(307, {"Location": f"{storage.url}{asked.target}"})
            return registry(asked)

        with front(behaviour, tls=contexts[0]) as running:
            flags = ["--ca-file", tmp_path / "ca.pem", "--cert-file", cert, "--key-file", key]
            regpush("inspect", f"{running.host}/{repository}@{digest}", *flags).ok()
            assert {asked.certified for asked in running.asked} == {True}
            assert {asked.certified for asked in storage.asked} == {False}


def test_a_handshake_in_advance_for_other_certificates_is_not_used(
    docker_registry_tls: Registry, repository: str
) -> None:
    assert docker_registry_tls.ca_file is not None
    unsafe = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unsafe.check_hostname, unsafe.verify_mode = False, ssl.CERT_NONE
    used: list[ssl.SSLSocket] = []

    def secure(sock: socket.socket) -> socket.socket:
        used.append(secured(sock, unsafe, "127.0.0.1", HANG_S))
        return used[-1]

    host, _, port = docker_registry_tls.host.partition(":")
    with (
        ahead.begun(host, int(port), secure),
        opened(docker_registry_tls.host, repository) as at,
        pytest.raises(RefusedError, match="not trusted"),
    ):
        at.repository.get_manifest("latest")
    assert len(used) == 1
    with (
        ahead.begun(host, int(port), secure),
        opened(
            docker_registry_tls.host, repository, ca_file=str(docker_registry_tls.ca_file)
        ) as at,
    ):
        assert at.repository.get_manifest("latest") is None


def test_the_first_request_uses_the_handshake_that_was_done_in_advance(
    docker_registry_tls: Registry, repository: str, app: Path, wire: StartProxy
) -> None:
    proxy = wire(docker_registry_tls)
    words = (f"{proxy.host}/{repository}", "--ca-file", str(docker_registry_tls.ca_file))
    push(app, *words).ok()
    proxy.reset()
    unable = "from regpush.http import wire; wire.shake_hands = None; "
    push(app, *words, program=("-c", unable + PATIENT[1])).ok()
    assert proxy.stats().connections == 1
