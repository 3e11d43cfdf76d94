"""Differences of single registries from the specification, or from each other. Pure.

Every row has its source. There are two kinds of rows: a `Vendor` is known by the name of its host,
and says which commands and rights its users need; a function below judges a reply that one registry
words in its own way, whatever its host is called, because registries stand behind proxies and other
names. The whole list with the facts behind it is docs/internals/registries.md, section 4.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from regpush.reference import HUB_HOSTS, RepositoryName
from regpush.registry.protocol import Problem


class Vendor(Struct, frozen=True, kw_only=True):
    """A registry service that is known by its host names, with advice for its users.

    The texts are templates of `str.format`: `{host}`, `{path}` (the repository's), `{owner}` and
    `{second}` (its first two components), and the named groups of `hosts`. A text is empty where
    nothing particular is known. `login`: the command that gives regpush credentials. `expiry`: how
    long they last. `reading`, `writing`: the rights that pulling and pushing need. `creating`: the
    command that makes a repository, where a push does not. `mounts`: why a blob was not mounted.
    `rejected`: further advice where the registry rejects credentials. `source`: the vendor's
    documents that state these facts.
    """

    name: str
    hosts: str
    source: str
    login: str = "regpush login {host}"
    expiry: str = ""
    reading: str = ""
    writing: str = ""
    creating: str = ""
    mounts: str = ""
    rejected: str = ""

    def say(self, template: str, at: RepositoryName) -> str:
        """Fill in `template` for the repository `at` in a registry of this vendor."""
        match = re.fullmatch(self.hosts, at.registry.lower())
        groups = match.groupdict() if match else {}
        owner, _, rest = at.path.partition("/")
        second = rest.partition("/")[0]
        return template.format(
            host=at.registry.lower(), path=at.path, owner=owner, second=second, **groups
        )


_UNKNOWN = Vendor(name="", hosts="", source="")

_GHCR_RIGHTS = (
    "a workflow needs 'permissions: packages: write' and a package that is linked to its "
    "repository, a user a token with write:packages"
)

VENDORS: Sequence[Vendor] = (
    Vendor(
        name="Amazon ECR",
        hosts=r"[0-9]{12}\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?",
        source="Amazon ECR user guide: Registry authentication, Creating a repository, "
        "IAM permissions for pushing an image, Blob mounting",
        login="aws ecr get-login-password --region {region} | "
        "regpush login {host} -u AWS --password-stdin",
        expiry=" (such a login lasts 12 hours)",
        reading="the role must be allowed to read {path}: "
        "ecr:BatchGetImage, ecr:GetDownloadUrlForLayer",
        writing="the role must be allowed to write {path}: ecr:InitiateLayerUpload, "
        "ecr:UploadLayerPart, ecr:CompleteLayerUpload, ecr:PutImage",
        creating="aws ecr create-repository --region {region} --repository-name {path}",
        mounts="ECR mounts only blobs that a manifest names, and only once that is switched on: "
        "aws ecr put-account-setting --name BLOB_MOUNTING --value ENABLED",
    ),
    Vendor(
        name="Google Artifact Registry",
        hosts=r"(?P<region>[a-z0-9-]+)-docker\.pkg\.dev",
        source="Artifact Registry documentation: Set up authentication for Docker, "
        "Configure access control, Create standard repositories",
        login="gcloud auth print-access-token | "
        "regpush login {host} -u oauth2accesstoken --password-stdin",
        reading="the account needs roles/artifactregistry.reader on the repository",
        writing="the account needs roles/artifactregistry.writer on the repository",
        creating="gcloud artifacts repositories create {second} --project={owner} "
        "--location={region} --repository-format=docker",
    ),
    Vendor(
        name="gcr.io",
        hosts=r"(?:[a-z]+\.)?gcr\.io",
        source="Artifact Registry documentation: Transition from Container Registry",
        login="gcloud auth print-access-token | "
        "regpush login {host} -u oauth2accesstoken --password-stdin",
        reading="the account needs roles/artifactregistry.reader on the repository",
        writing="the account needs roles/artifactregistry.writer on the repository",
    ),
    Vendor(
        name="Azure Container Registry",
        hosts=r"(?P<account>[a-z0-9]+)\.azurecr\.(?:io|cn|us)",
        source="Azure Container Registry documentation: Authenticate with a registry",
        login="az acr login --name {account}",
    ),
    Vendor(
        name="Docker Hub",
        hosts="|".join(map(re.escape, HUB_HOSTS)),
        source="Docker documentation: Access tokens; Docker Hub usage and limits",
        writing="{owner} must be your name or organisation, and an access token must allow both "
        "reading and writing",
        rejected="; with two-factor login, the password must be an access token",
    ),
    Vendor(
        name="GitHub Container Registry",
        hosts=r"ghcr\.io",
        source="GitHub documentation: Working with the Container registry; Publishing packages",
        writing=_GHCR_RIGHTS,
    ),
    Vendor(
        name="GitLab",
        hosts=r"registry\.gitlab\.com",
        source="GitLab documentation: Authenticate with the container registry, CI/CD job token",
        writing="the token needs the scope write_registry; for CI_JOB_TOKEN, the project must "
        "allow its jobs to push",
    ),
    Vendor(
        name="Quay",
        hosts=r"quay\.io",
        source="Quay documentation: Allowing access to a repository",
        writing="the user, or the robot account, needs the permission Write on the repository",
    ),
)


def vendor_of(registry: str) -> Vendor:
    """Return the vendor of the host `registry`; a `Vendor` with an empty name if unknown.

    `registry`: host and port as references write them.
    """
    host = registry.lower()
    return next((one for one in VENDORS if re.fullmatch(one.hosts, host)), _UNKNOWN)


def is_hub(registry: str) -> bool:
    """Whether `registry` is Docker Hub, under any of its names."""
    return registry.lower() in HUB_HOSTS


def is_ghcr(registry: str) -> bool:
    """Whether `registry` is GitHub's container registry, ghcr.io."""
    return vendor_of(registry).writing == _GHCR_RIGHTS


# Uploads.

CHUNK = 8 << 20
"""Bytes of a chunk, unless a host's replies ask for another size. ECR takes no parts below 5 MiB
(Amazon ECR API reference, UploadLayerPart)."""

RANGED_CHUNK = 4 << 20
"""Bytes of the largest chunk with a Content-Range that GHCR takes; it answers 416 to larger ones
(docs/internals/registries.md, section 4)."""


def wants_no_whole_upload(status: int, code: str) -> bool:
    """Whether a refused PUT of a whole blob means that the blob must be sent by PATCH.

    405 says so. Old versions of Artifactory opened an upload and answered 404 BLOB_UNKNOWN to the
    PUT (docs/internals/registries.md, section 4).
    """
    return status == 405 or (status, code) == (404, "BLOB_UNKNOWN")


def wants_a_length(status: int) -> bool:
    """Whether a refused PATCH of unknown length means that the registry wants a Content-Length.

    405 and 501 come from proxies that buffer nothing, 411 from RFC 9110, section 15.5.12.
    """
    return status in (405, 411, 501)


def wants_smaller_ranges(status: int, length: int) -> bool:
    """Whether `status` refuses a chunk of `length` bytes as GHCR refuses chunks above 4 MiB."""
    return status == 416 and length > RANGED_CHUNK


def is_one_too_high(header: str) -> bool:
    """Whether the Range `header` has the form `bytes=0-N`, in which Quay states one byte too many.

    Source: quay/quay, endpoints/v2/blob.py, `_render_range`.
    """
    return header.strip().startswith("bytes=")


# Manifests and tags.

_KEPT = (
    "immutab", "already exists", "overwrit", "protected tag", "tag is protected",
    "disallowed on this registry, repository or image",
)  # fmt: skip


def is_tag_conflict(status: int, problem: Problem) -> bool:
    """Whether a refused manifest was refused because its tag may not be moved.

    409 and 412 (Harbor) say so by their status. Others say it in words: ECR with 400 TAG_INVALID,
    Quay with UNKNOWN, GitLab with DENIED (docs/internals/registries.md), ACR with 405 or DENIED for
    a locked image (aka.ms/acr/faq).
    """
    if status in (409, 412):
        return True
    said = f"{problem.code} {problem.words}".lower().replace("_", " ")
    return status in (400, 403, 405, 422) and any(word in said for word in _KEPT)


def may_lack_blobs(status: int) -> bool:
    """Whether a refused manifest may have been refused because blobs that it names are missing.

    Distribution answers 404 MANIFEST_BLOB_UNKNOWN; zot 400 MANIFEST_INVALID, whose message says
    nothing of blobs; others 422.
    """
    return status in (400, 404, 422)


# Referrers.

NO_REFERRERS_API = (
    *(status for status in range(400, 500) if status not in (401, 408, 429, 499)), 501,
)  # fmt: skip
"""Statuses of registries without the endpoint `/referrers/`: every permanent refusal except 401.
The specification wants 404; old versions of GitLab and Harbor answer others."""
