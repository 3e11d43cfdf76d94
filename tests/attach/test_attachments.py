"""Pushes that attach: in which order, what becomes of tags, and what users are told."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from regpush.attach.sbom import FORMATS
from regpush.concurrency import Cancellation
from regpush.errors import RefusedError, RegpushError, TransientError
from regpush.events import Event, Note
from regpush.flow.pipeline import push as push_here
from regpush.options import AttachOptions, PushOptions, RegistryOptions, Sbom
from regpush.report import PushResult
from regpush.settings import Checkout, Settings
from tests.attach.test_sbom import spdx_document, valid_cyclonedx
from tests.patience import HANG_S, wait_until
from tests.program import ROOT, environment, push, regpush
from tests.registry.api import Api
from tests.registry.faults import FOREVER, Asked, Rule, fault_server, resets
from tests.registry.outcomes import tagged
from tests.registry.parts import find_part
from tests.registry.personas import gitlab_referrers
from tests.registry.servers import Registry

_COSIGN = """#!{python}
# Not cosign: it notes how it was started, and what it found where it was to sign.
import http.client, json, os, sys, time
if sys.argv[1] == "public-key":
    if os.environ.get("FAKE_SECRET"):
        sys.exit("Error: the key is in a safe")
    open(sys.argv[-1], "w").close()
    sys.exit(0)
if sys.argv[1] == "verify":
    with open({log!r} + "-verify", "a") as log:
        log.write(json.dumps(sys.argv[1:]) + "\\n")
    sys.exit(0 if os.environ.get("FAKE_VERIFIES") else "Error: no matching signatures")
reference = sys.argv[-1]
host, _, rest = reference.partition("/")
name, _, digest = rest.partition("@")
seen = {{}}
for what in (digest, "latest"):
    connection = http.client.HTTPConnection(host)
    accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"
    headers = {{"Accept": accept, **json.loads(os.environ.get("FAKE_HEADERS", "{{}}"))}}
    connection.request("HEAD", f"/v2/{{name}}/manifests/{{what}}", headers=headers)
    seen["digest" if what == digest else what] = connection.getresponse().status
    connection.close()
config = os.environ.get("DOCKER_CONFIG")
login = None
if config:
    file = os.path.join(config, "config.json")
    with open(file) as opened:
        content = json.load(opened)
    login = {{"content": content, "folder": config, "mode": os.stat(config).st_mode}}
with open({log!r}, "a") as log:
    log.write(json.dumps({{"argv": sys.argv[1:], "seen": seen, "login": login}}) + "\\n")
print("Pushing signature to: " + name, file=sys.stderr)
time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
if os.environ.get("FAKE_FAILS"):
    print("Error: signing: " + os.environ["FAKE_FAILS"], file=sys.stderr)
    print("main.go:74: error during command execution", file=sys.stderr)
    sys.exit(1)
"""


class Cosign:
    """A stand-in on a PATH of its own; `calls` are the times it was started."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "calls"
        program = folder / "bin" / "cosign"
        program.parent.mkdir()
        program.write_text(_COSIGN.format(python=sys.executable, log=str(self._log)))
        program.chmod(0o755)
        self.env = {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}

    @property
    def calls(self) -> list[dict]:
        """How it was started to sign, and what it saw then."""
        return _json_lines(self._log)

    @property
    def checks(self) -> list[list[str]]:
        """The words it was started with to verify."""
        return _json_lines(self._log.with_name("calls-verify"))


def _json_lines(file: Path) -> list:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def cosign(tmp_path: Path) -> Cosign:
    return Cosign(tmp_path)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    package = root / "node_modules" / "left-pad"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"name": "left-pad", "version": "1.3.0"}')
    (root / "main.py").write_text("print(1)\n")
    return root


def referrers(to: str, *flags: str) -> list[dict]:
    return regpush("inspect", to, "--format", "json", *flags).ok().report["referrers"]


def pushing(app: Path, to: str, **attach: object) -> tuple[PushResult, str]:
    """A push in this process, and what it had to say."""
    said: list[Event] = []
    result = push_here(
        str(app),
        to=to,
        options=PushOptions(attach=AttachOptions(**attach), cache=False),  # type: ignore[arg-type]  # keywords of the record
        settings=Settings(),
        notify=said.append,
    )
    return result, "\n".join(event.message for event in said if isinstance(event, Note))


@pytest.mark.parametrize(
    ("where", "form"),
    [("docker_registry", Sbom.SPDX), ("embedded_registry", Sbom.CYCLONEDX)],
    ids=["docker-registry", "embedded"],
)
def test_an_sbom_is_attached_once(
    where: str, form: Sbom, request: pytest.FixtureRequest, repository: str, app: Path
) -> None:
    registry: Registry = request.getfixturevalue(where)
    to = f"{registry.host}/{repository}"
    plain, _ = pushing(app, to)
    first, said = pushing(app, to, sbom=form)
    # Nothing of the image changes by it, and it stays a single one.
    assert first.digest == plain.digest
    assert not first.changed
    assert f"attached {FORMATS[form].media_type} sha256:" in said
    (one,) = referrers(to)
    printed = regpush("sbom", to).ok().stdout
    if form is Sbom.SPDX:
        names = {package.name for package in spdx_document(printed.encode()).packages}
    else:
        value = valid_cyclonedx(printed.encode())
        assert value["metadata"]["component"]["version"] == str(first.digest)
        names = {component["name"] for component in value["components"]}
    assert {"left-pad", "app"} <= names
    plain, _ = pushing(app, to)
    again, said = pushing(app, to, sbom=form)
    assert said == ""
    assert again.requests <= plain.requests + 2
    assert referrers(to) == [one]
    # A first push makes the very same: what is known of items then is no less.
    assert pushing(app, f"{to}-new", sbom=form)[1]
    assert pushing(app, f"{to}-new", sbom=form)[1] == ""


def test_who_asks_for_another_format_is_told(
    embedded_registry: Registry, repository: str, app: Path
) -> None:
    to = f"{embedded_registry.host}/{repository}"
    push(app, to).ok()
    regpush("sbom", to).failed(4, "has no SBOM attached")
    push(app, to, "--sbom", "spdx").ok()
    regpush("sbom", to, "--format", "cyclonedx").failed(4, "has no cyclonedx SBOM attached")
    assert regpush("sbom", to, "--format", "spdx").ok().report["spdxVersion"] == "SPDX-2.3"
    shown = regpush("inspect", to).ok().stdout
    assert "attached: application/spdx+json sha256:" in shown


@pytest.mark.parametrize(("form", "library"), [("spdx", "spdx_tools"), ("cyclonedx", "cyclonedx")])
def test_without_the_library_nothing_is_sent(
    docker_registry: Registry, repository: str, app: Path, tmp_path: Path, form: str, library: str
) -> None:
    shim = tmp_path / "shim" / library
    shim.mkdir(parents=True)
    (shim / "__init__.py").write_text(f"raise ModuleNotFoundError('none', name={library!r})")
    with fault_server(docker_registry.host) as server:
        env = {"PYTHONPATH": f"{shim.parent}{os.pathsep}{ROOT}"}
        done = push(app, f"{server.host}/{repository}", "--sbom", form, env=env)
        done.failed(2, f"--sbom {form}", f"'{library}'", "pip install 'regpush[sbom]'")
        assert server.asked == []


def attaching(
    app: Path, host: str, repository: str, *, sbom: Sbom = Sbom.CYCLONEDX, retry_times: int = 1
) -> RegpushError | None:
    options = PushOptions(
        attach=AttachOptions(sbom=sbom),
        registry=RegistryOptions(retry_times=retry_times),
        cache=False,
    )
    try:
        push_here(str(app), to=f"{host}/{repository}", options=options, settings=Settings())
    except RegpushError as error:
        return error
    return None


def is_referrer(asked: Asked) -> bool:
    return b'"subject"' in asked.body


def test_no_tag_moves_where_the_registry_dies_meanwhile(
    registry: Registry, repository: str, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cancellation, "wait", lambda self, s: time.sleep(min(s, 0.01)))
    died = Rule(resets, "PUT", "manifest", times=FOREVER, only=is_referrer)
    with fault_server(registry.host, died) as server:
        error = attaching(app, server.host, repository)
    assert isinstance(error, TransientError)
    assert tagged(registry.host, repository) is None
    assert attaching(app, registry.host, repository) is None
    assert tagged(registry.host, repository)


def test_no_tag_moves_where_no_list_can_be_kept(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    with fault_server(docker_registry.host, *gitlab_referrers()) as server:
        error = attaching(app, server.host, repository)
    assert isinstance(error, RefusedError)
    assert "for the image itself" in str(error)
    assert tagged(docker_registry.host, repository) is None


def test_each_platform_has_its_own_and_the_whole_is_signed(
    docker_registry: Registry, repository: str, app: Path, cosign: Cosign
) -> None:
    to = f"{docker_registry.host}/{repository}"
    flags = ("--platform", "linux/amd64,linux/arm64", "--sbom", "cyclonedx", "--sign")
    done = push(app, to, *flags, env=cosign.env).ok()
    digests = set()
    for image in done.report["images"]:
        (one,) = referrers(to, "--platform", image["platform"])
        assert one["artifactType"] == "application/vnd.cyclonedx+json"
        sbom = regpush("sbom", to, "--platform", image["platform"]).ok().report
        assert sbom["metadata"]["component"]["version"] == image["digest"]
        digests.add(one["digest"])
    assert len(digests) == 2
    (call,) = cosign.calls
    assert call["argv"][-1] == f"{to}@{done.report['digest']}"
    assert call["seen"] == {"digest": 200, "latest": 404}


def test_a_signature_comes_before_tags(
    docker_registry: Registry, repository: str, app: Path, cosign: Cosign
) -> None:
    to = f"{docker_registry.host}/{repository}"
    done = push(app, to, "--sign-key", "k8s://ns/key", "--plain-http", env=cosign.env).ok()
    (call,) = cosign.calls
    named = f"{to}@{done.report['digest']}"
    key = ["--key", "k8s://ns/key"]
    assert call["argv"] == ["sign", "--yes", *key, "--allow-http-registry", named]
    assert call["seen"] == {"digest": 200, "latest": 404}
    assert call["login"] is None
    assert "cosign: Pushing signature to" in done.stderr
    assert "--reuse content" in done.stderr
    assert tagged(docker_registry.host, repository) == done.report["digest"]


def test_the_signer_logs_in_as_we_do(
    docker_registry_htpasswd: Registry, repository: str, app: Path, cosign: Cosign
) -> None:
    """By a file, which is gone afterwards: a password in a command could be read by others."""
    registry = docker_registry_htpasswd
    to = f"{registry.host}/{repository}"
    pair = base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
    env = {**cosign.env, "FAKE_HEADERS": json.dumps({"Authorization": f"Basic {pair}"})}
    flags = ("--username", registry.username, "--password-stdin", "--sign")
    push(app, to, *flags, env=env, stdin=registry.password).ok()
    (call,) = cosign.calls
    login = call["login"]
    entry = {"username": registry.username, "password": registry.password}
    assert login["content"] == {"auths": {registry.host: entry}}
    assert stat.S_IMODE(login["mode"]) == 0o700
    assert not Path(login["folder"]).exists()
    assert registry.password not in " ".join(call["argv"])


@pytest.fixture
def real_cosign(tmp_path: Path) -> tuple[str, dict[str, str]]:
    """cosign with a key pair in `tmp_path`, and the environment it runs in."""
    program = find_part("cosign")
    if program is None:
        pytest.skip("the program 'cosign' is not installed")  # Debian has no package of it
    env = {"COSIGN_PASSWORD": "", "HOME": str(tmp_path)}
    subprocess.run(
        [program, "generate-key-pair"], cwd=tmp_path, env={**os.environ, **env}, check=True
    )
    return program, env


def offline(program: str) -> list[str]:
    """Flags for signing without the public log: nothing here leaves this machine."""
    version = subprocess.run([program, "version"], capture_output=True, text=True).stdout
    flags = ["--sign-option=--tlog-upload=false"]
    # From version 3 on, a signing configuration names the log.
    return [*flags, "--sign-option=--use-signing-config=false"] if "v3." in version else flags


def verifies(program: str, folder: Path, named: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [program, "verify", "--key", folder / "cosign.pub", "--insecure-ignore-tlog", named],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )


def test_cosign_itself_signs_and_verifies(
    docker_registry_htpasswd: Registry,
    repository: str,
    app: Path,
    tmp_path: Path,
    real_cosign: tuple[str, dict[str, str]],
) -> None:
    program, env = real_cosign
    registry = docker_registry_htpasswd
    flags = ("--username", registry.username, "--password-stdin", *offline(program))
    key = str(tmp_path / "cosign.key")
    to = f"{registry.host}/{repository}"
    done = push(app, to, *flags, "--sign-key", key, env=env, stdin=registry.password).ok()
    login = {"username": registry.username, "password": registry.password}
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: login}}))
    named = f"{to}@{done.report['digest']}"
    checked = verifies(program, tmp_path, named, **env, DOCKER_CONFIG=str(tmp_path))
    assert checked.returncode == 0, checked.stderr
    assert done.report["digest"] in checked.stdout


@pytest.mark.parametrize("where", ["docker_registry", "embedded_registry"])
def test_an_unchanged_image_is_signed_once_and_beside_its_sbom(
    request: pytest.FixtureRequest,
    repository: str,
    app: Path,
    tmp_path: Path,
    real_cosign: tuple[str, dict[str, str]],
    where: str,
) -> None:
    """Signatures and SBOMs share the list of referrers: whichever comes first, both stay."""
    program, env = real_cosign
    registry: Registry = request.getfixturevalue(where)
    to = f"{registry.host}/{repository}"
    key = ("--sign-key", str(tmp_path / "cosign.key"), *offline(program))
    first = push(app, to, "--sbom", "spdx", *key, env=env).ok()
    assert "is signed already" not in first.stderr
    before = signatures(to)
    assert len(before) == 1
    again = push(app, to, "--sbom", "cyclonedx", *key, env=env).ok()
    assert "is signed already" in again.stderr
    assert again.report["digest"] == first.report["digest"]
    named = f"{to}@{first.report['digest']}"
    checked = verifies(program, tmp_path, named, **env)
    assert checked.returncode == 0, checked.stderr
    assert signatures(to) == before
    types = {one["artifactType"] for one in referrers(to)}
    assert {FORMATS[Sbom.SPDX].media_type, FORMATS[Sbom.CYCLONEDX].media_type} <= types
    # With an annotation that the signature lacks, it is no such signature.
    noted = push(app, to, *key, "--sign-option=-a", "--sign-option=by=ci", env=env).ok()
    assert "cosign verified no signature of" in noted.stderr
    assert signatures(to) != before
    assert {one["artifactType"] for one in referrers(to)} >= types
    (tmp_path / "other").mkdir()
    made = {**os.environ, **env}
    subprocess.run([program, "generate-key-pair"], cwd=tmp_path / "other", env=made, check=True)
    other = ("--sign-key", str(tmp_path / "other" / "cosign.key"), *offline(program))
    assert "cosign verified no signature of" in push(app, to, *other, env=env).ok().stderr


def signatures(to: str) -> list[str]:
    """The digests of cosign's bundles, which version 3 lists among what refers to an image."""
    return [one["digest"] for one in referrers(to) if "sigstore" in one["artifactType"]]


KEY = ("--sign-key", "awskms:///alias/key")


@pytest.mark.parametrize("verified", [True, False])
def test_an_image_is_signed_again_only_where_no_signature_verifies(
    docker_registry: Registry, repository: str, app: Path, cosign: Cosign, verified: bool
) -> None:
    to = f"{docker_registry.host}/{repository}"
    env = {**cosign.env, "FAKE_VERIFIES": "1" if verified else ""}
    words = ("--sign-option=-a", "--sign-option=by=ci", "--sign-option=--tlog-upload=false")
    done = [push(app, to, *KEY, *words, env=env).ok() for _ in range(3)]
    assert len(cosign.calls) == (1 if verified else 3)
    assert cosign.calls[0]["argv"][4:-1] == ["-a", "by=ci", "--tlog-upload=false"]
    # What is new is not looked for.
    assert len(cosign.checks) == 2
    named = f"{to}@{done[0].report['digest']}"
    for words_of_check in cosign.checks:
        assert words_of_check[3:] == ["-a", "by=ci", "--insecure-ignore-tlog=true", named]
    told = f"{named} is signed already" if verified else f"cosign verified no signature of {named}"
    assert told in done[-1].stderr
    (app / "main.py").write_text("print(2)\n")
    push(app, to, *KEY, env=env).ok()
    assert len(cosign.checks) == 2


def test_who_signs_by_an_identity_is_known_again_by_it(
    docker_registry: Registry, repository: str, app: Path, cosign: Cosign
) -> None:
    to = f"{docker_registry.host}/{repository}"
    env = {**cosign.env, "FAKE_VERIFIES": "1"}
    push(app, to, "--sign", env=env).ok()
    again = push(app, to, "--sign", env=env).ok()
    assert "--sign-identity and --sign-issuer: the image is signed again" in again.stderr
    assert (len(cosign.calls), cosign.checks) == (2, [])
    who = ("--sign-identity", "me@example.com", "--sign-issuer", "https://issuer.example")
    assert "is signed already" in push(app, to, "--sign", *who, env=env).ok().stderr
    wanted = ["--certificate-identity", who[1], "--certificate-oidc-issuer", who[3]]
    assert cosign.checks[0][1:5] == wanted
    assert len(cosign.calls) == 2


GITHUB = {
    "GITHUB_WORKFLOW_REF": "octo/app/.github/workflows/release.yml@refs/heads/main",
    "GITHUB_SERVER_URL": "https://github.com",
    "ACTIONS_ID_TOKEN_REQUEST_URL": "https://pipelines.example/token",
}


def id_token(**claims: str) -> str:
    """What GitLab gives a job that asks for it by `id_tokens`."""
    parts = ({"alg": "RS256"}, claims, {"no": "signature"})
    coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join(part.rstrip("=") for part in coded)


GITLAB = {
    "SIGSTORE_ID_TOKEN": id_token(
        iss="https://gitlab.example",
        ci_config_ref_uri="gitlab.example/group/app//.gitlab-ci.yml@refs/heads/main",
    )
}


@pytest.mark.parametrize(
    ("pipeline", "subject", "issuer"),
    [
        (
            GITHUB,
            "https://github.com/octo/app/.github/workflows/release.yml@refs/heads/main",
            "https://token.actions.githubusercontent.com",
        ),
        (
            GITLAB,
            "https://gitlab.example/group/app//.gitlab-ci.yml@refs/heads/main",
            "https://gitlab.example",
        ),
    ],
    ids=["github", "gitlab"],
)
def test_a_pipeline_knows_its_own_signatures(
    docker_registry: Registry,
    repository: str,
    app: Path,
    cosign: Cosign,
    pipeline: dict[str, str],
    subject: str,
    issuer: str,
) -> None:
    """Fulcio's config/identity/config.yaml says what stands in the certificates of both."""
    to = f"{docker_registry.host}/{repository}"
    env = {**cosign.env, **pipeline, "FAKE_VERIFIES": "1"}
    push(app, to, "--sign", env=env).ok()
    assert "is signed already" in push(app, to, "--sign", env=env).ok().stderr
    expected = ["--certificate-identity", subject, "--certificate-oidc-issuer", issuer]
    assert [check[1:5] for check in cosign.checks] == [expected]
    assert len(cosign.calls) == 1
    # Who says otherwise knows better, and a key needs no identity.
    flags = ("--sign-identity", "me@example.com", "--sign-issuer", "https://issuer.example")
    push(app, to, "--sign", *flags, env=env).ok()
    assert cosign.checks[-1][2] == "me@example.com"
    push(app, to, "--sign-key", "k8s://ns/key", env=env).ok()
    assert "--certificate-identity" not in cosign.checks[-1]
    assert len(cosign.calls) == 1
    # Where that identity has signed nothing, it signs.
    push(app, to, "--sign", env={**env, "FAKE_VERIFIES": ""}).ok()
    assert len(cosign.calls) == 2


@pytest.mark.parametrize(
    "pipeline",
    [
        {**GITHUB, "ACTIONS_ID_TOKEN_REQUEST_URL": ""},
        {**GITHUB, "GITHUB_SERVER_URL": "https://gitea.example"},
        {"SIGSTORE_ID_TOKEN": "no token"},
        {"SIGSTORE_ID_TOKEN": "a.!!!.c"},
        {"SIGSTORE_ID_TOKEN": "a.W10.c"},
        {"SIGSTORE_ID_TOKEN": "a." + "W1tb" * 30_000 + ".c"},
        {"SIGSTORE_ID_TOKEN": id_token(iss="https://gitlab.example")},
    ],
    ids=["no-token", "gitea", "no-jwt", "no-base64", "no-object", "huge", "no-claim"],
)
def test_what_names_no_identity_gives_none(pipeline: dict[str, str]) -> None:
    assert Settings.from_environ(pipeline).identity is None


def test_a_key_that_cannot_be_looked_at_signs_again(
    docker_registry: Registry, repository: str, app: Path, cosign: Cosign
) -> None:
    to = f"{docker_registry.host}/{repository}"
    env = {**cosign.env, "FAKE_VERIFIES": "1", "FAKE_SECRET": "1"}
    push(app, to, *KEY, env=env).ok()
    assert (
        "the key is in a safe; the image is signed again"
        in push(app, to, *KEY, env=env).ok().stderr
    )
    assert len(cosign.calls) == 2


def test_the_images_of_an_index_are_signed_where_that_is_asked_for(
    docker_registry: Registry, repository: str, app: Path, cosign: Cosign
) -> None:
    to = f"{docker_registry.host}/{repository}"
    platforms = ("--platform", "linux/amd64,linux/arm64")
    env = {**cosign.env, "FAKE_VERIFIES": "1"}
    done = push(app, to, *platforms, *KEY, env=env).ok()
    assert "--sign-recursive signs its 2 images too" in done.stderr
    done = push(app, f"{to}-all", *platforms, *KEY, "--sign-recursive", env=env).ok()
    signed = [call["argv"][-1].partition("@")[2] for call in cosign.calls[1:]]
    index = json.loads(Api(docker_registry.host, f"{repository}-all").manifest("latest").body)
    children = [one["digest"] for one in index["manifests"]]
    assert sorted(signed) == sorted([*children, done.report["digest"]])
    assert signed[-1] == done.report["digest"]
    push(app, f"{to}-all", *platforms, *KEY, "--sign-recursive", env=env).ok()
    assert (len(cosign.calls), len(cosign.checks)) == (4, 3)


@pytest.mark.parametrize(
    "words",
    [
        'Post "https://rekor.example/api/v1/log/entries": dial tcp: connect: connection refused',
        "dial tcp: lookup fulcio.example: no such host",
        "net/http: TLS handshake timeout",
        "Get https://r.example/v2/: unexpected EOF",
        "POST https://r.example/v2/x: unexpected status code 503 Service Unavailable",
        "context deadline exceeded",
    ],
)
def test_a_network_that_fails_cosign_is_worth_another_run(
    docker_registry: Registry, repository: str, app: Path, cosign: Cosign, words: str
) -> None:
    to = f"{docker_registry.host}/{repository}"
    done = push(app, to, "--sign", env={**cosign.env, "FAKE_FAILS": words})
    done.failed(5, "cosign did not sign", "running again is safe")
    assert tagged(docker_registry.host, repository) is None


def test_no_tag_moves_where_signing_fails(
    docker_registry: Registry, repository: str, app: Path, cosign: Cosign
) -> None:
    to = f"{docker_registry.host}/{repository}"
    done = push(app, to, "--sign", env={**cosign.env, "FAKE_FAILS": "no identity token"})
    done.failed(4, "cosign did not sign", to, "(exit 1)", "error during command execution")
    assert "cosign: Error: signing: no identity token" in done.stderr
    assert tagged(docker_registry.host, repository) is None


def test_without_cosign_nothing_is_sent(
    docker_registry: Registry, repository: str, app: Path, tmp_path: Path
) -> None:
    with fault_server(docker_registry.host) as server:
        env = {"PATH": str(tmp_path)}
        push(app, f"{server.host}/{repository}", "--sign", env=env).failed(
            2, "--sign needs the program cosign, which is not on the PATH"
        )
        assert server.asked == []


def test_a_push_that_is_stopped_while_signing(
    docker_registry: Registry, repository: str, app: Path, cosign: Cosign
) -> None:
    to = f"{docker_registry.host}/{repository}"
    process = subprocess.Popen(
        [sys.executable, "-m", "regpush", str(app), "--to", to, "--no-cache", "--sign"],
        env=environment(**cosign.env, FAKE_SECONDS="600"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: cosign.calls, "cosign to begin")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=HANG_S)
    assert process.returncode == 143
    assert "no tag was moved" in said
    assert tagged(docker_registry.host, repository) is None


GITHUB = {
    "GITHUB_SHA": "0123456789abcdef0123456789abcdef01234567",
    "GITHUB_REPOSITORY": "acme/app",
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_WORKFLOW_REF": "acme/app/.github/workflows/push.yml@refs/heads/main",
}


def statement(to: str) -> dict:
    """The one attached to an image, as in-toto's own library takes it."""
    (one,) = [one for one in referrers(to) if one["artifactType"].endswith("in-toto+json")]
    assert one["annotations"] == {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"}
    host, _, repository = to.partition("/")
    api = Api(host, repository)
    manifest = json.loads(api.manifest(one["digest"]).body)
    made: dict = json.loads(api.blob(manifest["layers"][0]["digest"]).body)
    Statement.copy_from_pb(ParseDict(made, statement_pb2.Statement())).validate()
    ParseDict(made["predicate"], provenance_pb2.Provenance())
    return made


def test_provenance_says_what_went_in(
    embedded_registry: Registry, repository: str, app: Path
) -> None:
    to = f"{embedded_registry.host}/{repository}"
    done = push(app, to, "--provenance", "--cmd", "python main.py", env=GITHUB).ok()
    made = statement(to)
    digest = done.report["digest"].removeprefix("sha256:")
    assert made["_type"] == "https://in-toto.io/Statement/v1"
    assert made["subject"] == [{"name": to, "digest": {"sha256": digest}}]
    assert made["predicateType"] == "https://slsa.dev/provenance/v1"
    definition, run = made["predicate"]["buildDefinition"], made["predicate"]["runDetails"]
    assert definition["externalParameters"] == {
        "target": {"kind": "directory", "name": "app"},
        "platform": done.report["images"][0]["platform"],
        "options": {"layers": {"reuse": "content"}, "image": {"cmd": ["python", "main.py"]}},
    }
    own, commit = definition["resolvedDependencies"]
    assert own["name"] == "/app"
    assert len(own["digest"]["regpushTreeSha256"]) == 64
    assert commit == {
        "uri": "git+https://github.com/acme/app@refs/heads/main",
        "digest": {"gitCommit": GITHUB["GITHUB_SHA"]},
    }
    assert run["builder"]["id"] == f"https://github.com/{GITHUB['GITHUB_WORKFLOW_REF']}"
    # The same push says the same, so nothing is attached twice.
    again = push(app, to, "--provenance", "--cmd", "python main.py", env=GITHUB).ok()
    assert "note: attached" not in again.stderr


def test_provenance_is_of_what_this_push_derived(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    """A layer counts as known by its content alone, whatever recipe stands on it."""
    to = f"{docker_registry.host}/{repository}"
    push(app, to).ok()
    done = push(app, to, "--provenance").ok()
    whys = {layer["why"] for layer in done.report["images"][0]["layers"]}
    assert whys == {f"same content as in {to}:latest"}
    assert "--reuse content" in done.stderr
    assert not done.report["changed"]
    planned = regpush("plan", app, "--to", to, "--provenance", "--no-cache").ok()
    assert "--reuse content" in planned.stderr
    # Who wants even less trust keeps it.
    assert "--reuse content" not in push(app, to, "--provenance", "--reuse", "none").ok().stderr


@pytest.mark.parametrize(
    ("environ", "checkout"),
    [
        ({}, None),
        (
            {**GITHUB, "GITHUB_SERVER_URL": "https://git.example.com"},
            Checkout(
                repository="https://git.example.com/acme/app",
                commit=GITHUB["GITHUB_SHA"],
                ref="refs/heads/main",
                builder=f"https://git.example.com/{GITHUB['GITHUB_WORKFLOW_REF']}",
            ),
        ),
        (
            {
                "CI_COMMIT_SHA": "ab" * 20,
                "CI_PROJECT_URL": "https://gitlab.example.com/acme/app",
                "CI_COMMIT_REF_NAME": "main",
                "CI_RUNNER_ID": "7",
            },
            Checkout(
                repository="https://gitlab.example.com/acme/app",
                commit="ab" * 20,
                ref="refs/heads/main",
                builder="https://gitlab.example.com/acme/app/-/runners/7",
            ),
        ),
        (
            {
                "CI_COMMIT_SHA": "ab" * 20,
                "CI_PROJECT_URL": "https://gitlab.example.com/acme/app",
                "CI_COMMIT_REF_NAME": "v1",
                "CI_COMMIT_TAG": "v1",
            },
            Checkout(
                repository="https://gitlab.example.com/acme/app",
                commit="ab" * 20,
                ref="refs/tags/v1",
                builder="",
            ),
        ),
    ],
    ids=["none", "forgejo", "gitlab", "gitlab-tag"],
)
def test_what_pipelines_say_of_themselves(
    environ: dict[str, str], checkout: Checkout | None
) -> None:
    assert Settings.from_environ(environ).checkout == checkout
