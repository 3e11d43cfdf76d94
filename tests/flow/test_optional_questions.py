"""No push fails for a question whose answer only saves work: referrers, tags, mounts, HEAD."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from regpush.concurrency import Cancellation
from regpush.digest import Digest
from regpush.flow.pipeline import push as push_here
from regpush.options import AttachOptions, LayerOptions, PushOptions, RegistryOptions, Sbom
from regpush.registry.referrers import list_referrers
from regpush.settings import Settings
from tests.program import regpush
from tests.registry.faults import FOREVER, Act, Asked, Rule, answers, fault_server, resets
from tests.registry.outcomes import make_app, push, verify_image
from tests.registry.personas import referrers_elsewhere
from tests.registry.servers import Registry
from tests.registry_client.opening import opened


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_app(tmp_path_factory.mktemp("optional") / "app")


@pytest.fixture(scope="module")
def beside(docker_registry: Registry, app: Path) -> str:
    """Another repository with the app, which layers can be mounted from."""
    assert push(app, docker_registry.host, "tests/optional-beside").result
    return "tests/optional-beside"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cancellation, "wait", lambda self, s: time.sleep(min(s, 0.01)))


def is_list_of_tags(asked: Asked) -> bool:
    return "/tags/list" in asked.target


def is_mount(asked: Asked) -> bool:
    return "mount=" in asked.target


QUESTIONS = {
    "referrers": ("GET", "referrers", lambda asked: True),
    "tags": ("GET", "other", is_list_of_tags),
    "mount": ("POST", "open", is_mount),
    "HEAD of a tag": ("HEAD", "tag", lambda asked: True),
    "HEAD of a manifest": ("HEAD", "manifest", lambda asked: True),
}
NOWHERE = "http://localhost:9/nowhere"
ANSWERS: dict[str, Act] = {
    **{str(status): answers(status) for status in (400, 401, 418, 500)},
    "404 with a long page": answers(404, b"<html>" * 20_000),
    "429": answers(429, Retry_After="1"),
    "a page": answers(200, b"<html>not found</html>", Content_Type="text/html"),
    "nowhere": answers(307, Location=NOWHERE),
    "reset": resets,
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_push_without_that_answer(
    docker_registry: Registry, repository: str, app: Path, beside: str, question: str, answer: str
) -> None:
    method, kind, only = QUESTIONS[question]
    rule = Rule(ANSWERS[answer], method, kind, times=FOREVER, only=only)
    with fault_server(docker_registry.host, rule) as server:
        done = push_here(
            str(app),
            to=f"{server.host}/{repository}:v1",
            options=PushOptions(
                attach=AttachOptions(sbom=Sbom.CYCLONEDX),
                layers=LayerOptions(reuse_from=(f"{server.host}/{beside}",)),
                registry=RegistryOptions(retry_times=1),
                cache=False,
            ),
            settings=Settings(),
        )
        asked = [one for one in server.asked if rule.fits(one)]
        assert asked or question == "HEAD of a manifest"
        with opened(server.host, repository, retry_times=0) as at:
            found = (
                [1]
                if question == "referrers" and answer in ("429", "500", "reset", "401")
                else list_referrers(at.repository, done.digest or Digest.of(b""))
            )
        assert len(found) == 1
    assert verify_image(docker_registry.host, repository, "v1") == str(done.digest)


@pytest.mark.parametrize("where", ["docker_registry", "embedded_registry"])
def test_doctor_says_of_referrers_elsewhere_what_a_push_does(
    request: pytest.FixtureRequest, repository: str, app: Path, where: str
) -> None:
    registry: Registry = request.getfixturevalue(where)
    with fault_server(registry.host, *referrers_elsewhere()) as server:
        to = f"{server.host}/{repository}"
        regpush(app, "--to", to, "--no-cache", "--sbom", "spdx").ok()
        asked = [one for one in server.asked if one.kind == "referrers"]
        # The redirect is followed once, and the other host is asked once.
        assert len(asked) == 2
        steps = regpush("doctor", to, "--format", "json").ok().report["steps"]
        (step,) = [one for one in steps if one["name"] == "referrers"]
        assert step["detail"] == (
            "no referrers API (answered 303 to localhost, which answered 429): "
            "using the fallback tag"
        )
        shown = regpush("inspect", to, "--format", "json").ok().report["referrers"]
        assert [one["artifactType"] for one in shown] == ["application/spdx+json"]
    digest = verify_image(registry.host, repository)
    assert regpush("inspect", f"{registry.host}/{repository}@{digest}").ok()


def test_a_list_elsewhere_is_read_to_its_last_page(
    embedded_registry: Registry, repository: str, app: Path
) -> None:
    """Where the redirect works, what refers to an image is found; credentials stay at home."""
    pages: list[Asked] = []

    def elsewhere(asked: Asked, upstream: object) -> object:
        host = asked.headers["host"]
        if host.startswith("127.0.0.1"):
            there = host.replace("127.0.0.1", "localhost")
            return answers(303, Location=f"http://{there}{asked.target}")(asked, upstream)  # type: ignore[arg-type]  # not looked at
        pages.append(asked)
        number = 2 if "page=2" in asked.target else 1
        entry = (
            '{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":2,'
            f'"digest":"sha256:{str(number) * 64}","artifactType":"text/x"}}'
        )
        body = '{"schemaVersion":2,"manifests":[' + entry + "]}"
        link = {"Link": f'<{asked.target}?page=2>; rel="next"'} if number == 1 else {}
        return answers(200, body.encode(), **link)(asked, upstream)  # type: ignore[arg-type]  # not looked at

    rules = [
        Rule(
            answers(401, WWW_Authenticate='Basic realm="r"'),
            times=FOREVER,
            only=lambda asked: (
                asked.headers["host"].startswith("127") and "authorization" not in asked.headers
            ),
        ),
        Rule(elsewhere, "GET", "referrers", times=FOREVER),  # type: ignore[arg-type]  # an act
    ]
    with (
        fault_server(embedded_registry.host, *rules) as server,
        opened(server.host, repository, username="u", password="at home") as at,
    ):
        found = list_referrers(at.repository, Digest("sha256", "a" * 64))
    assert [one.descriptor.digest.hex[:1] for one in found] == ["1", "2"]
    assert len(pages) == 2
    assert all("authorization" not in one.headers for one in pages)
