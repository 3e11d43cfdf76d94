"""Platforms are read, spelt and compared as containerd does.

`data/platforms.json` holds the answers of github.com/containerd/platforms at 09756f5: for each
text what `Parse` gives, and that in turn by `Normalize`, both as `FormatAll` writes them; and
of the texts those that `Only(text).Match` takes, without the ones of another architecture.
"""

import json
from pathlib import Path

import pytest

from regpush.errors import UsageError
from regpush.platform import Platform, parse_platforms

ANSWERS = json.loads(Path(__file__).with_name("data").joinpath("platforms.json").read_text())


@pytest.mark.parametrize("text", ANSWERS["parse"])
def test_a_platform_is_read_and_normalised_as_by_containerd(text):
    parsed = Platform.parse(text)
    assert [str(parsed), str(parsed.normal)] == ANSWERS["parse"][text]


@pytest.mark.parametrize("wanted", ANSWERS["runs"])
def test_what_runs_on_what_is_as_by_containerd(wanted):
    on = Platform.parse(wanted)
    runs = [text for text in ANSWERS["runs"] if Platform.parse(text).rank(on) is not None]
    assert runs == ANSWERS["runs"][wanted]


@pytest.mark.parametrize("architecture", ["aarch64", "x86_64", "ARM64", "arm"])
@pytest.mark.parametrize("variant", ["v8", "8", ""])
def test_what_a_document_says_is_kept_as_it_is_spelt(architecture, variant):
    said = {"variant": variant} if variant else {}
    value = {"os": "Linux", "architecture": architecture, **said}
    found = Platform.of_json(value)
    assert found is not None
    assert found.to_json() == value


def test_details_of_windows_are_kept():
    value = {
        "os": "windows",
        "architecture": "amd64",
        "os.version": "10.0.17763.1",
        "os.features": ["win32k"],
    }
    found = Platform.of_json(value)
    assert found == Platform.parse("windows(10.0.17763.1+win32k)/amd64")
    assert found.to_json() == value


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"os": "linux"},
        {"os": "linux", "architecture": ""},
        {"os": 1, "architecture": "amd64"},
        {"os": "linux", "architecture": "amd64", "variant": 7},
        {"os": "linux", "architecture": "amd64", "os.features": "gpu"},
        {"os": "linux", "architecture": "amd64", "os.features": [1]},
        {"os": "unknown", "architecture": "unknown"},
    ],
)
def test_what_names_no_platform_is_none(value):
    assert Platform.of_json(value) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("linux/x64", "is linux/amd64 meant?"),
        ("linux/amd46", "is linux/amd64 meant?"),
        ("linux/armv7l", "is linux/arm/v7 meant?"),
        ("linux/arm64v8", "is linux/arm64 meant?"),
        ("linux/i686", "is linux/386 meant?"),
        ("lunix/amd64", "is linux/amd64 meant?"),
        ("amd64/linux", "the operating system comes first: linux/amd64"),
        ("arm64", "write it as linux/arm64"),
        ("linux", "write it as linux/amd64"),
        ("linux/zzzzzz", "no registry knows 'zzzzzz'"),
        ("linux/amd64/v9", "amd64 has no variant 'v9'; its variants are v1, v2, v3, v4"),
        ("linux/arm64/v7", "arm64 has no variant 'v7'"),
        ("linux/arm/v4", "arm has no variant 'v4'; its variants are v5, v6, v7, v8"),
        ("linux/arm/foo/bar", "bad platform"),
        ("", "bad platform"),
        ("linux/", "bad platform"),
        ("linux /arm", "bad platform"),
        ("linux/&arm", "bad platform"),
        ("linux/\x1b[2J", r"bad platform 'linux/\x1b[2J'"),
    ],
)
def test_what_no_registry_knows_is_an_error_that_says_what_is_meant(text, words):
    with pytest.raises(UsageError) as error:
        Platform.parse(text)
    assert words in str(error.value)


def test_two_spellings_of_one_platform_are_one_too_many():
    assert len(parse_platforms(["linux/amd64", "linux/amd64/v2", "linux/arm64"])) == 3
    with pytest.raises(UsageError, match="linux/arm64/v8, which is linux/arm64, is given twice"):
        parse_platforms(["linux/aarch64", "linux/arm64/v8"])


def test_the_systems_of_nix_and_guix():
    systems = {
        "linux/amd64": "x86_64-linux",
        "linux/amd64/v3": "x86_64-linux",
        "linux/arm64/v8": "aarch64-linux",
        "linux/arm": "armv7l-linux",
        "linux/arm/v6": "armv6l-linux",
        "linux/arm/v8": None,
        "linux/mips64": None,
        "windows/amd64": None,
    }
    assert {text: Platform.parse(text).system for text in systems} == systems
