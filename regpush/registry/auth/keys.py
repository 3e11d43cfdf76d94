"""Keys of credentials files, which say for which registry an entry is. Pure.

Docker writes hosts, and for Docker Hub a URL; older versions wrote URLs for all.
containers-auth.json(5) adds namespaces and repositories below a host.
"""

from __future__ import annotations

from regpush.reference import DOCKER_HUB, HUB_HOSTS

HUB_KEY = "https://index.docker.io/v1/"


def candidates(registry: str, repository: str) -> list[str]:
    """Return the keys under which a file may hold a login for `repository`, in normal form.

    The most specific comes first: `host/a/b`, `host/a`, `host`.
    """
    parts = [registry.lower(), *repository.split("/")]
    return ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]


def normalise(key: str) -> str:
    """Return the normal form of a key: `host` for `https://host/v1/`; `host/namespace` stays."""
    scheme, mark, rest = key.rpartition("://")
    host, _, path = rest.partition("/")
    host = DOCKER_HUB if host.lower() in HUB_HOSTS else host.lower()
    path = path.strip("/")
    # A key with a scheme is Docker's, whose path means nothing; containers writes no scheme.
    if (mark and scheme) or path in ("v1", "v2"):
        path = ""
    return f"{host}/{path}" if path else host


def docker_key(registry: str) -> str:
    """Return the key that Docker uses for `registry`, in its file and for its helpers."""
    return HUB_KEY if registry == DOCKER_HUB else registry
