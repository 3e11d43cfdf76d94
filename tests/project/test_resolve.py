"""Manifests for Kubernetes with digests in them, and what was pushed for that."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from regpush.errors import UsageError
from regpush.project.kubernetes import find, replace
from tests.flow.test_push_directory import write
from tests.program import push, regpush
from tests.project.test_configuration import here, refusal

__all__ = ["here"]

MANIFEST = """\
# The API; regpush://comment stays.
apiVersion: apps/v1
kind: Deployment
metadata:
  name:   api      # odd spacing, kept
  annotations: {"escaped": "regpush:\\/\\/web", regpush://web: yes}
spec:
  template:
    spec:
      containers:
      - {name: api, image: regpush://web}   # flow
      - name: 'sidecar'
        image: "regpush://./sidecar"
        args: ['--image=regpush://web', --other=regpush://./sidecar/, é]
---
apiVersion: v1
kind: ConfigMap
data:
  text: |   # regpush://comment
    use regpush://web, or
    "regpush://./sidecar" — that is all
  folded: >-
    and
    regpush://web
...
---
- &anchor !!str regpush://web
- *anchor
"""


def edited(text, **images):
    found = find(text, "x.yaml")
    named = {name: images.get(name, f"<{name}>") for one in found for name in one.names}
    return replace(text, found, named)


def test_all_strings_and_no_comments():
    after = edited(MANIFEST)
    assert after.count("regpush://") == 2  # the comments
    expected = MANIFEST.replace('"regpush:\\/\\/web"', '"<web>"')
    for name in ("web", "./sidecar/", "./sidecar"):
        expected = expected.replace(f"regpush://{name}", f"<{name}>")
    assert after == expected
    for old, new in zip(yaml.safe_load_all(MANIFEST), yaml.safe_load_all(after), strict=True):
        as_said = json.dumps(old)
        for name in ("web", "./sidecar/", "./sidecar"):
            as_said = as_said.replace(f"regpush://{name}", f"<{name}>")
        assert new == json.loads(as_said)


@pytest.mark.parametrize(
    "text",
    [
        "a: regpush://web\r\nb: 1\r\n",
        "\ufeffa: 'regpush://web'\n",
        '{"a": ["regpush://web", "é😀"], "b": "regpush:\\u002f\\u002fweb"}',
        'a: "one regpush://\\\n  web two"\n',
        "😀: é\nb: regpush://web",
        "? regpush://web\n: - regpush://web\n",
        "a: 'it''s regpush://web'\n",
    ],
)
def test_however_it_is_written(text):
    after = edited(text, web="host/web@sha256:0")
    old, new = yaml.safe_load(text.lstrip("\ufeff")), yaml.safe_load(after.lstrip("\ufeff"))
    assert json.dumps(new) == json.dumps(old).replace("regpush://web", "host/web@sha256:0")
    assert "\r\n" in after or "\r\n" not in text


words = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\x85\u2028\u2029\ufeff")
)


@given(
    st.lists(st.dictionaries(words, words | st.just("regpush://web"))),
    st.sampled_from(["'", '"', "|", ">", None]),
)
def test_only_references_change(documents, style):
    text = yaml.safe_dump_all(documents, default_style=style, allow_unicode=True)
    after = list(yaml.safe_load_all(edited(text, web="w@1")))
    want = json.loads(json.dumps(documents).replace("regpush://web", "w@1"))
    assert after == want


def test_without_references_nothing_is_parsed():
    for text in ("{{ .Values }}", "", "a: [", "regpush"):
        assert find(text, "x") == ()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: regpush://web\nb: [", "x.yaml:2:5"),
        ("a: regpush://web\n\tb: 1", "x.yaml:2:1"),
        ("a: regpush://web\n\x01", "x.yaml: not YAML"),
    ],
)
def test_what_is_no_yaml(text, place):
    with pytest.raises(UsageError) as refused:
        find(text, "x.yaml")
    assert place in str(refused.value)


@pytest.fixture
def project(here, docker_registry, repository):
    """Two things to push, of which one is an app, and manifests for both."""
    to = f"{docker_registry.host}/{repository}"
    write(here / "dist" / "main.py")
    write(here / "sidecar" / "run", "#!/bin/sh\n")
    write(here / "regpush.toml", f"[apps.web]\ntarget = 'dist'\nto = '{to}/web'\ntags = ['v1']\n")
    write(here / "k8s" / "app.yaml", MANIFEST)
    write(here / "k8s" / "deep" / "list.json", '{"image": "regpush://web"}')
    write(here / "k8s" / "README", "regpush://nobody")
    return here, to


def test_what_is_named_is_pushed_once(project):
    here, to = project
    done = regpush("resolve", "-f", "k8s", "-R", "--to", f"{to}/x/", cwd=here).ok()
    assert done.stderr.count("uploaded, no previous") == 0
    web = push("dist", f"{to}/web:v1", cwd=here).ok().report
    sidecar = push("sidecar", f"{to}/x/sidecar", cwd=here).ok().report
    assert (web["changed"], sidecar["changed"]) == (False, False)
    expected = MANIFEST.replace('"regpush:\\/\\/web"', f'"{web["ref"]}"')
    for name, one in (("web", web), ("./sidecar/", sidecar), ("./sidecar", sidecar)):
        expected = expected.replace(f"regpush://{name}", one["ref"])
    assert done.stdout == f'{expected}---\n{{"image": "{web["ref"]}"}}'
    summaries = [line for line in done.stderr.splitlines() if line.startswith("Sent ")]
    assert len(summaries) == 2
    documents = list(yaml.safe_load_all(done.stdout))
    assert documents[-1] == {"image": web["ref"]}


def test_from_stdin_and_as_it_was(project):
    here, to = project
    done = regpush("resolve", "-f", "-", cwd=here, stdin="a: regpush://web # é\n").ok()
    assert done.stdout.startswith(f"a: {to}/web@sha256:")
    assert done.stdout.endswith(" # é\n")
    plain = regpush("resolve", "-f", "-", cwd=here, stdin="a: {{ b }}").ok()
    assert plain.stdout == "a: {{ b }}"
    assert "no regpush:// reference" in plain.stderr
    # What is printed goes to kubectl, whatever the terminal speaks.
    env = {"PYTHONIOENCODING": "latin-1"}
    assert regpush("resolve", "-q", "-f", "-", stdin="é: 1", env=env).ok().stdout == "é: 1"


def test_nothing_is_printed_unless_all_was_pushed(project, capsys):
    here, to = project
    text = "a: regpush://web\nb: regpush://./nowhere\n"
    done = regpush("resolve", "-f", "-", "--to", f"{to}/x", cwd=here, stdin=text)
    done.failed(2, "nowhere")
    write(here / "m.yaml", "# one\na: regpush://wbe\n")
    assert "m.yaml:2: regpush://wbe" in (line := refusal(capsys, "resolve", "-f", "m.yaml"))
    assert "did you mean 'web'?" in line
    write(here / "m.yaml", "a: regpush://./dist")
    assert "--to registry/prefix" in refusal(capsys, "resolve", "-f", "m.yaml")
    write(here / "other" / "dist" / "x")
    write(here / "m.yaml", "[regpush://./dist, regpush://./other/dist]")
    assert "./dist would be pushed to h:1/dist" in refusal(
        capsys, "resolve", "-f", "m.yaml", "--to", "h:1"
    )
    assert "cannot read nowhere" in refusal(capsys, "resolve", "-f", "nowhere")
    assert "-R" in refusal(capsys, "resolve", "-f", "other")
    assert "format json" in refusal(capsys, "resolve", "-f", "k8s", "--format", "json")
    two = ("resolve", "-f", "k8s", "--to", "h:1", "--digest-file", "x")
    assert "--digest-file" in refusal(capsys, *two)
    assert "-f" in refusal(capsys, "resolve")
