"""The table of vendors: one vendor a host, and texts that can be filled in."""

import re

import pytest

from regpush.reference import HUB_HOSTS, RepositoryName
from regpush.registry.quirks import VENDORS, vendor_of

HOSTS = [
    ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "Amazon ECR"),
    ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "Amazon ECR"),
    ("europe-west4-docker.pkg.dev", "Google Artifact Registry"),
    ("gcr.io", "gcr.io"),
    ("eu.gcr.io", "gcr.io"),
    ("Team.azurecr.io", "Azure Container Registry"),
    *((host, "Docker Hub") for host in HUB_HOSTS),
    ("ghcr.io", "GitHub Container Registry"),
    ("registry.gitlab.com", "GitLab"),
    ("quay.io", "Quay"),
    ("registry.example.com", ""),
    ("ghcr.io.example.com", ""),
    ("localhost:5000", ""),
]


@pytest.mark.parametrize(("host", "name"), HOSTS)
def test_a_host_is_of_one_vendor(host: str, name: str) -> None:
    assert vendor_of(host).name == name
    assert sum(bool(re.fullmatch(one.hosts, host.lower())) for one in VENDORS) == bool(name)


@pytest.mark.parametrize(("host", "name"), [one for one in HOSTS if one[1]])
@pytest.mark.parametrize("path", ["app", "team/app", "a/b/c"])
def test_every_text_can_be_filled_in(host: str, name: str, path: str) -> None:
    vendor = vendor_of(host)
    assert vendor.source
    at = RepositoryName(host, path)
    for text in (vendor.login, vendor.reading, vendor.writing, vendor.creating, vendor.mounts):
        said = vendor.say(text, at)
        assert "{" not in said
        assert bool(said) == bool(text)
