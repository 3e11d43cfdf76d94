"""Image references: `registry/repository[:tag][@digest]`.

The grammar of distribution-spec ("Pulling manifests") with Docker's short forms, as
github.com/distribution/reference reads them: the first component is a host iff it holds
`.` or `:`, or is `localhost`; otherwise the registry is Docker Hub.
"""

from __future__ import annotations

import ipaddress
import re

from msgspec import Struct
from msgspec.structs import replace

from regpush.digest import Digest
from regpush.errors import UsageError, VerificationError, printable

DOCKER_HUB = "docker.io"
HUB_API = "registry-1.docker.io"
HUB_HOSTS = (DOCKER_HUB, "index.docker.io", HUB_API)
"""The names of Docker Hub's host, in references and in credential files."""
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:.]+\])(?::([0-9]{{1,5}}))?", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)


class RepositoryName(Struct, frozen=True, order=True):
    """A repository and the registry that holds it; its text is `registry/path`.

    `registry` keeps an explicit port; `docker.io` stands for Docker Hub. `path` is empty where
    the registry as a whole is meant.
    """

    registry: str
    path: str

    @classmethod
    def parse(cls, text: str) -> RepositoryName:
        """Read the text `registry/path` that `str()` gives."""
        registry, _, path = text.partition("/")
        return cls(registry, path)

    def __str__(self) -> str:
        return f"{self.registry}/{self.path}" if self.path else self.registry

    @property
    def last(self) -> str:
        """The last component of `path`."""
        return self.path.rpartition("/")[2]

    def is_beside(self, other: RepositoryName) -> bool:
        """Whether both are repositories of one registry, so that blobs can be mounted."""
        return self.registry == other.registry


class Reference(Struct, frozen=True, kw_only=True):
    """A reference to an image; `registry` and `repository` are those of a `RepositoryName`."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference, with Docker's short forms. Raises UsageError that names the fault."""

        def bad(why: str) -> UsageError:
            return UsageError(f"bad image reference '{printable(text)}': {why}")

        name, at, digest_text = text.partition("@")
        digest = None
        if at:
            try:
                digest = Digest.parse(digest_text)
            except VerificationError:
                raise bad("what follows '@' is not a digest such as sha256:<64 hex>") from None
        if "://" in name:
            raise bad("leave out the scheme (use --plain-http for http)")
        tag = None
        if name.rfind(":") > name.rfind("/"):
            first_only = "/" not in name
            name, _, tag = name.rpartition(":")
            if first_only and _is_host(name) and tag.isdigit():
                raise bad(f"it names a registry but no repository: {name}:{tag}/<repository>")
            if not _TAG.fullmatch(tag):
                raise bad("a tag is up to 128 of letters, digits, '.', '_' and '-'")
        host, slash, repository = name.partition("/")
        if not slash or not _is_host(host):
            host, repository = DOCKER_HUB, name
        if host in HUB_HOSTS:
            host = DOCKER_HUB
        if host == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        match = _HOST.fullmatch(host)
        if match is None or (match[1] and not 0 < int(match[1]) < 65536):
            raise bad(f"'{printable(host)}' is not a registry host")
        if not _REPOSITORY.fullmatch(repository):
            if _REPOSITORY.fullmatch(repository.lower()):
                raise bad(f"repository names are lower case: {repository.lower()}")
            raise bad("a repository is lower-case letters, digits, '.', '_', '-' between slashes")
        if len(host) + 1 + len(repository) > 255:
            raise bad("registry and repository together are longer than 255 characters")
        return cls(registry=host, repository=repository, tag=tag, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def name(self) -> RepositoryName:
        """The repository, without tag and digest."""
        return RepositoryName(self.registry, self.repository)

    @property
    def api_host(self) -> str:
        """The host, with its port if one is given, that serves the API of `registry`."""
        return HUB_API if self.registry == DOCKER_HUB else self.registry

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is this machine, so that plain http leaks nothing."""
        host = self.registry
        host = (
            host[1 : host.index("]")] if host.startswith("[") else host.rpartition(":")[0] or host
        )
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def with_tag(self, tag: str) -> Reference:
        """Return a reference to this repository under `tag`.

        Raises UsageError for a malformed tag.
        """
        if not _TAG.fullmatch(tag):
            raise UsageError(
                f"bad tag '{printable(tag)}': a tag is up to 128 of letters, digits, '.', '_', '-'"
            )
        return replace(self, tag=tag, digest=None)

    def with_digest(self, digest: Digest) -> Reference:
        """Return a reference to this repository at `digest`, without a tag."""
        return replace(self, tag=None, digest=digest)


def _is_host(component: str) -> bool:
    return "." in component or ":" in component or component == "localhost"
