"""The next step after a refusal, and that whoever is refused is told it."""

from __future__ import annotations

import json

import pytest

from regpush.errors import AuthError, RefusedError, RegpushError
from regpush.reference import RepositoryName
from regpush.registry import hints
from regpush.registry.hints import Trouble, hint
from tests.flow.test_push_directory import app
from tests.program import regpush
from tests.registry_client.front import Answer, Asked, front
from tests.registry_client.opening import opened, put

__all__ = ["app"]

ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
GAR = "europe-west1-docker.pkg.dev"


named = RepositoryName.parse


@pytest.mark.parametrize(
    ("name", "method", "status", "code", "words", "expected"),
    [
        (f"{ECR}/team/app", "POST", 404, "NAME_UNKNOWN", "",
         "aws ecr create-repository --region eu-central-1 --repository-name team/app"),
        (f"{GAR}/project/images/app", "POST", 404, "NAME_UNKNOWN", "",
         "gcloud artifacts repositories create images --project=project --location=europe-west1"),
        ("harbor.example.com/p/app", "POST", 404, "NOT_FOUND", "", "wants it created first"),
        ("harbor.example.com/p/app", "GET", 404, "MANIFEST_UNKNOWN", "", ""),
        ("harbor.example.com/p/app", "PUT", 404, "BLOB_UPLOAD_UNKNOWN", "", ""),
        ("ghcr.io/team/app", "POST", 403, "DENIED", "", "permissions: packages: write"),
        ("ghcr.io/team/app", "GET", 403, "DENIED", "", "regpush doctor ghcr.io/team/app"),
        (f"{ECR}/team/app", "POST", 403, "DENIED", "", "ecr:InitiateLayerUpload"),
        (f"{ECR}/team/app", "GET", 403, "DENIED", "", "ecr:BatchGetImage"),
        (f"{GAR}/p/i/app", "POST", 403, "DENIED", "", "roles/artifactregistry.writer"),
        ("docker.io/team/app", "POST", 403, "DENIED", "", "team must be your name"),
        ("registry.gitlab.com/g/app", "POST", 403, "DENIED", "", "write_registry"),
        ("quay.io/team/app", "POST", 403, "", "", "permission Write"),
        ("r.example.com/app", "POST", 403, "", "", "'regpush doctor r.example.com/app'"),
        ("r.example.com/app", "PUT", 403, "DENIED", "project quota exceeded", "delete images"),
        ("r.example.com/app", "PATCH", 507, "", "", "delete images"),
        ("docker.io/library/python", "GET", 429, "TOOMANYREQUESTS", "pull rate limit",
         "regpush login docker.io"),
        ("r.example.com/app", "GET", 429, "", "", ""),
        ("r.example.com/app", "PUT", 413, "", "", "limits the size of requests"),
        ("r.example.com/app", "PUT", 415, "", "", "--compression gzip"),
        ("r.example.com/app", "PUT", 400, "MANIFEST_INVALID", "", "--compression gzip"),
        ("r.example.com/app", "PUT", 403, "DENIED", "tag is immutable", ""),
        ("r.example.com/app", "PUT", 409, "", "", ""),
        ("r.example.com/app", "GET", 501, "", "", "registry's logs"),
        ("r.example.com/app", "GET", 503, "", "", ""),
    ],
)  # fmt: skip
def test_hints(name: str, method: str, status: int, code: str, words: str, expected: str) -> None:
    told = hint(Trouble(name=named(name), method=method, status=status, code=code, words=words))
    assert "\n" not in told
    assert expected in told
    assert bool(told) == bool(expected)


@pytest.mark.parametrize(
    ("host", "command"),
    [
        ("registry.example.com:5000", "regpush login registry.example.com:5000"),
        (ECR, "aws ecr get-login-password --region eu-central-1 | "
              f"regpush login {ECR} -u AWS --password-stdin"),
        (GAR, "gcloud auth print-access-token | "
              f"regpush login {GAR} -u oauth2accesstoken --password-stdin"),
        ("eu.gcr.io", "gcloud auth print-access-token | "
                      "regpush login eu.gcr.io -u oauth2accesstoken --password-stdin"),
        ("team.azurecr.io", "az acr login --name team"),
        # Whose names only look alike.
        ("x.dkr.ecr.eu-central-1.amazonaws.com", "regpush login x.dkr.ecr"),
        ("gcr.io.example.com", "regpush login gcr.io.example.com"),
    ],
)  # fmt: skip
def test_how_to_log_in(host: str, command: str) -> None:
    assert hints.log_in(host).startswith(command)


@pytest.mark.parametrize(
    ("host", "source", "expected"),
    [
        ("ghcr.io", "GITHUB_TOKEN", "packages: write"),
        ("r.example.com", "the command line", "check the credentials"),
        ("r.example.com", "/home/me/.docker/config.json", "regpush login r.example.com"),
        ("docker.io", "/home/me/.docker/config.json", "access token"),
        (ECR, "/home/me/.docker/config.json", "12 hours"),
    ],
)
def test_credentials_that_are_refused(host: str, source: str, expected: str) -> None:
    assert expected in hints.with_credentials(host, source)


def refusing(status: int, code: str = "", words: str = "") -> object:
    body = json.dumps({"errors": [{"code": code, "message": words}]}).encode()

    def behaviour(asked: Asked) -> Answer:
        if asked.method in ("GET", "HEAD"):
            return Answer(404)
        return Answer(status, body=body)

    return behaviour


@pytest.mark.parametrize(
    ("status", "code", "words", "kind", "told"),
    [
        (403, "DENIED", "no", RefusedError, "answered 403: no; run 'regpush doctor "),
        (404, "NAME_UNKNOWN", "no", RefusedError, "wants it created first"),
        (507, "", "", RegpushError, "quota raised"),
    ],
)
def test_errors_end_in_the_next_step(
    status: int, code: str, words: str, kind: type[RegpushError], told: str
) -> None:
    with (
        front(refusing(status, code, words)) as server,  # type: ignore[arg-type]  # a behaviour
        opened(server.host, retry_times=0) as at,
        pytest.raises(kind) as caught,
    ):
        put(at.repository, b"x")
    assert told in str(caught.value)
    assert str(caught.value).count(told) == 1


def test_sizes_that_were_tried_are_told() -> None:
    def behaviour(asked: Asked) -> Answer:
        if asked.method in ("PUT", "PATCH"):
            return Answer(413)
        if asked.method == "POST":
            return Answer(202, {"Location": "/v2/team/app/blobs/uploads/1"})
        return Answer(404)

    with (
        front(behaviour) as server,
        opened(server.host, retry_times=0) as at,
        pytest.raises(
            RefusedError, match=r"chunks of 65536 bytes were refused too.*client_max_body_size"
        ),
    ):
        put(at.repository, b"x" * 1_000_000)


def test_whose_credentials_were_refused_is_told_and_they_are_not() -> None:
    with (
        front(lambda asked: Answer(401, {"WWW-Authenticate": 'Basic realm="r"'})) as server,
        opened(server.host, username="alice", password="s3cret") as at,
        pytest.raises(AuthError) as caught,
    ):
        put(at.repository, b"x")
    assert "user 'alice' from the command line" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_name_that_does_not_resolve(app: object) -> None:
    done = regpush(app, "--to", "registry.invalid/app", "--retry-times", "0")
    done.failed(5, "the name registry.invalid does not resolve; is the name spelt correctly")


def test_who_was_forbidden_is_told() -> None:
    def behaviour(asked: Asked) -> Answer:
        if "authorization" not in asked.headers:
            return Answer(401, {"WWW-Authenticate": 'Basic realm="r"'})
        return Answer(404 if asked.method in ("GET", "HEAD") else 403)

    with (
        front(behaviour) as server,
        opened(server.host, username="alice", password="s3cret") as at,
        pytest.raises(RefusedError) as caught,
    ):
        put(at.repository, b"x")
    assert "answered 403 (credentials: user 'alice' from the command line)" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_nobody_is_told_to_log_in() -> None:
    trouble = Trouble(name=named("r.example.com/app"), method="POST", status=403, anonymous=True)
    assert "'regpush login r.example.com'" in hint(trouble)


def test_ecr_mounts_where_that_is_switched_on() -> None:
    assert "put-account-setting --name BLOB_MOUNTING" in hints.no_mounts(named(f"{ECR}/team/app"))
    assert hints.no_mounts(named("registry.example.com/team/app")) == ""
