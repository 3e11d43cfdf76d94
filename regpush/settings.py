"""Reads from the environment, in one pure function, the settings that regpush takes from it."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs

from regpush.errors import UsageError, printable

NIX_STORE = "/nix/store"
GUIX_STORE = "/gnu/store"


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """A store of Nix or Guix: its logical root (`/gnu/store`) and its SQLite database."""

    logical: str
    database: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """The proxy variables, not yet parsed.

    `http` and `https`: the proxy for requests to http and to https addresses, possibly with a
    password; empty for none. `bypass`: NO_PROXY.
    """

    http: str = field(default="", repr=False)
    https: str = field(default="", repr=False)
    bypass: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NpmSettings:
    """The configuration of npm outside of a project.

    `variables`: the environment, since npm's files refer to variables. `user_file`, `global_file`:
    npm's userconfig and globalconfig. `cache`: npm's default cache folder.
    """

    variables: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({}), repr=False, compare=False
    )
    user_file: str | None = None
    global_file: str | None = None
    cache: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSettings:
    """The configuration of package indexes, from the variables of pip, uv and npm.

    `logins`: (name of an index in uv's variables, user name, password). `urls`: URLs of indexes,
    possibly with credentials. `client_certificates`: PEM files that have a certificate and its key,
    the first takes precedence. `ca_file`: a PEM file of authorities. `unverified_hosts`: hosts,
    possibly with a port, whose certificates are not verified. `pip_cache`: pip's cache folder.
    `npm`: the configuration of npm.
    """

    logins: tuple[tuple[str, str, str], ...] = field(default=(), repr=False)
    urls: tuple[str, ...] = field(default=(), repr=False)
    client_certificates: tuple[str, ...] = ()
    ca_file: str | None = None
    unverified_hosts: tuple[str, ...] = ()
    pip_cache: str | None = None
    npm: NpmSettings = NpmSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """The repository and commit that a CI pipeline has checked out.

    `repository`: its URL. `commit`: in full. `ref`: like `refs/heads/main`. `builder`: the URL that
    identifies the pipeline, empty where it has none.
    """

    repository: str
    commit: str
    ref: str
    builder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineIdentity:
    """The identity in the certificate with which a CI pipeline signs without a key.

    Both fields are URLs: `subject` is cosign's --certificate-identity and `issuer` its
    --certificate-oidc-issuer.
    """

    subject: str
    issuer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that regpush takes from the environment.

    `cache_dir`: None without XDG_CACHE_HOME and HOME. `auth`: the text of an auth.json file.
    `auth_files`: paths of such files, the first with a login wins; missing files are no error.
    `login_file`: the file that `regpush login` writes. `github_token` and `github_actor`: the token
    of a GitHub workflow and its user. `ca_file` and `ca_dir` replace the system's certificates,
    like OpenSSL's variables. `certificate_dirs`: folders with one folder for each registry
    (containers-certs.d(5)), the first match wins. `stores`: stores of Nix and Guix that may exist,
    the first that does wins. `source_date_epoch`: seconds since 1970. `checkout`: None outside of a
    pipeline. `identity`: None where the pipeline has no known identity. `indexes`: settings for
    indexes of packages.
    """

    cache_dir: str | None = None
    auth: str | None = field(default=None, repr=False)
    auth_files: tuple[str, ...] = ()
    login_file: str | None = None
    github_token: str | None = field(default=None, repr=False)
    github_actor: str | None = None
    netrc_file: str | None = None
    ca_file: str | None = None
    ca_dir: str | None = None
    certificate_dirs: tuple[str, ...] = ()
    proxies: ProxySettings = ProxySettings()
    stores: tuple[StoreLocation, ...] = ()
    source_date_epoch: int | None = None
    checkout: Checkout | None = None
    identity: PipelineIdentity | None = None
    indexes: IndexSettings = IndexSettings()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read the environment `environ`.

        Raises UsageError for a SOURCE_DATE_EPOCH that is not a number.
        """
        home = environ.get("HOME") or None
        return cls(
            cache_dir=_cache_dir(environ, home),
            auth=environ.get("REGPUSH_AUTH") or None,
            auth_files=_auth_files(environ, home),
            login_file=_login_file(environ, home),
            github_token=environ.get("GITHUB_TOKEN") or None,
            github_actor=environ.get("GITHUB_ACTOR") or None,
            netrc_file=environ.get("NETRC") or (os.path.join(home, ".netrc") if home else None),
            ca_file=environ.get("SSL_CERT_FILE") or None,
            ca_dir=environ.get("SSL_CERT_DIR") or None,
            certificate_dirs=_certificate_dirs(environ, home),
            proxies=_proxies(environ),
            stores=_stores(environ),
            source_date_epoch=_epoch(environ.get("SOURCE_DATE_EPOCH", "")),
            checkout=_checkout(environ),
            identity=_identity(environ),
            indexes=_indexes(environ, home),
        )


def _cache_dir(environ: Mapping[str, str], home: str | None) -> str | None:
    if xdg := environ.get("XDG_CACHE_HOME"):
        return os.path.join(xdg, "regpush")
    return os.path.join(home, ".cache", "regpush") if home else None


_INDEX_LOGIN = re.compile(r"UV_INDEX_([A-Z0-9_]+)_(?:USERNAME|PASSWORD)", re.ASCII)


def _indexes(environ: Mapping[str, str], home: str | None) -> IndexSettings:
    """Read the variables of uv, pip and npm.

    Sources: uv reference, "Environment variables"; pip documentation, "Configuration" and
    "Caching".
    """
    names = dict.fromkeys(found[1] for name in environ if (found := _INDEX_LOGIN.fullmatch(name)))
    urls = [environ.get("PIP_INDEX_URL", ""), *environ.get("PIP_EXTRA_INDEX_URL", "").split()]
    certificates = (environ.get("SSL_CLIENT_CERT", ""), environ.get("PIP_CLIENT_CERT", ""))
    hosts = (environ.get("UV_INSECURE_HOST", ""), environ.get("PIP_TRUSTED_HOST", ""))
    cache = environ.get("XDG_CACHE_HOME") or (os.path.join(home, ".cache") if home else "")
    return IndexSettings(
        logins=tuple(
            (
                name,
                environ.get(f"UV_INDEX_{name}_USERNAME", ""),
                environ.get(f"UV_INDEX_{name}_PASSWORD", ""),
            )
            for name in names
        ),
        urls=tuple(filter(None, urls)),
        client_certificates=tuple(filter(None, certificates)),
        ca_file=environ.get("PIP_CERT") or None,
        unverified_hosts=tuple(" ".join(hosts).split()),
        pip_cache=environ.get("PIP_CACHE_DIR") or (os.path.join(cache, "pip") if cache else None),
        npm=_npm(environ, home),
    )


def _npm(environ: Mapping[str, str], home: str | None) -> NpmSettings:
    """Read npm's variables, whose names npm compares without case (npm documentation, "npmrc")."""
    said = {name.lower(): value for name, value in environ.items() if value}
    return NpmSettings(
        variables=MappingProxyType(dict(environ)),
        user_file=said.get("npm_config_userconfig")
        or (os.path.join(home, ".npmrc") if home else None),
        global_file=said.get("npm_config_globalconfig"),
        cache=os.path.join(home, ".npm") if home else None,
    )


def _auth_files(environ: Mapping[str, str], home: str | None) -> tuple[str, ...]:
    files = []
    if explicit := environ.get("REGISTRY_AUTH_FILE"):
        files.append(explicit)
    if docker := environ.get("DOCKER_CONFIG"):
        files.append(os.path.join(docker, "config.json"))
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        files.append(os.path.join(runtime, "containers", "auth.json"))
    if config := _config_dir(environ, home):
        files.append(os.path.join(config, "containers", "auth.json"))
    if home:
        files.append(os.path.join(home, ".docker", "config.json"))
    return tuple(dict.fromkeys(files))


def _login_file(environ: Mapping[str, str], home: str | None) -> str | None:
    """Return the file of logins that the environment names, else Docker's.

    skopeo, podman and crane read Docker's file too.
    """
    if explicit := environ.get("REGISTRY_AUTH_FILE"):
        return explicit
    docker = environ.get("DOCKER_CONFIG") or (os.path.join(home, ".docker") if home else None)
    return os.path.join(docker, "config.json") if docker else None


def _config_dir(environ: Mapping[str, str], home: str | None) -> str | None:
    if xdg := environ.get("XDG_CONFIG_HOME"):
        return xdg
    return os.path.join(home, ".config") if home else None


def _certificate_dirs(environ: Mapping[str, str], home: str | None) -> tuple[str, ...]:
    config = _config_dir(environ, home)
    own = (os.path.join(config, "containers", "certs.d"),) if config else ()
    return (*own, "/etc/containers/certs.d", "/etc/docker/certs.d")


def _proxies(environ: Mapping[str, str]) -> ProxySettings:
    def either(name: str) -> str:
        return environ.get(name) or environ.get(name.lower()) or ""

    # In a CGI program HTTP_PROXY is a header of the client's (CVE-2016-5385).
    upper = "" if environ.get("REQUEST_METHOD") else environ.get("HTTP_PROXY")
    return ProxySettings(
        http=upper or environ.get("http_proxy") or either("ALL_PROXY"),
        https=either("HTTPS_PROXY") or either("ALL_PROXY"),
        bypass=either("NO_PROXY"),
    )


def _stores(environ: Mapping[str, str]) -> tuple[StoreLocation, ...]:
    store = environ.get("NIX_STORE_DIR") or environ.get("NIX_STORE")
    nix_state = environ.get("NIX_STATE_DIR") or "/nix/var/nix"
    guix_state = environ.get("GUIX_STATE_DIRECTORY") or "/var/guix"
    guix_database = environ.get("GUIX_DATABASE_DIRECTORY") or os.path.join(guix_state, "db")
    nix = StoreLocation(store or NIX_STORE, os.path.join(nix_state, "db", "db.sqlite"))
    remote = chroot_stores(environ.get("NIX_REMOTE", ""))
    # Guix reads NIX_STORE_DIR too.
    guix = StoreLocation(store or GUIX_STORE, os.path.join(guix_database, "db.sqlite"))
    named_guix = environ.get("GUIX_STATE_DIRECTORY") or environ.get("GUIX_DATABASE_DIRECTORY")
    own = (guix, nix) if named_guix and not environ.get("NIX_STATE_DIR") else (nix, guix)
    return (*remote, *own, *_rootless(environ))


def chroot_stores(url: str) -> tuple[StoreLocation, ...]:
    """Return the store inside another root directory that the URL of a local store names.

    Empty for every other URL. Nix manual, "Store URL format": a path, or `local` with the parameter
    `root`.
    """
    address, _, query = url.partition("?")
    root = parse_qs(query).get("root", [""])[-1] if address in ("local", "local://") else ""
    root = address if address.startswith("/") else root
    if not root:
        return ()
    return (StoreLocation(NIX_STORE, os.path.join(root, "nix/var/nix/db/db.sqlite")),)


def _rootless(environ: Mapping[str, str]) -> tuple[StoreLocation, ...]:
    """Return the store that Nix makes in the home of a user who may not write to /nix.

    Empty where neither XDG_DATA_HOME nor HOME is set. Nix manual, "Local Store".
    """
    home = environ.get("HOME")
    data = environ.get("XDG_DATA_HOME") or (os.path.join(home, ".local", "share") if home else "")
    return chroot_stores(os.path.join(data, "nix", "root")) if data else ()


def _epoch(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,11}", text, re.ASCII):
        raise UsageError(
            f"SOURCE_DATE_EPOCH is '{printable(text)}', not a count of seconds since 1970"
        )
    return int(text)


def _checkout(environ: Mapping[str, str]) -> Checkout | None:
    """Read the variables of GitHub's runners, which Gitea and Forgejo set too, or of GitLab's."""
    if commit := environ.get("GITHUB_SHA"):
        server = environ.get("GITHUB_SERVER_URL") or "https://github.com"
        workflow = environ.get("GITHUB_WORKFLOW_REF")
        return Checkout(
            repository=f"{server}/{environ.get('GITHUB_REPOSITORY', '')}",
            commit=commit,
            ref=environ.get("GITHUB_REF", ""),
            builder=f"{server}/{workflow}" if workflow else "",
        )
    if commit := environ.get("CI_COMMIT_SHA"):
        project, runner = environ.get("CI_PROJECT_URL", ""), environ.get("CI_RUNNER_ID")
        tag, branch = environ.get("CI_COMMIT_TAG"), environ.get("CI_COMMIT_REF_NAME")
        return Checkout(
            repository=project,
            commit=commit,
            ref=f"refs/tags/{tag}" if tag else f"refs/heads/{branch}" if branch else "",
            builder=f"{project}/-/runners/{runner}" if runner else "",
        )
    return None


_GITHUB = "https://github.com"
_TOKEN_LIMIT = 1 << 16


def _identity(environ: Mapping[str, str]) -> PipelineIdentity | None:
    """Return the identity that Fulcio certifies for a GitHub workflow or a GitLab pipeline.

    Source: Fulcio, config/identity/config.yaml, subject-alternative-name-template.
    GITHUB_WORKFLOW_REF has the value of GitHub's claim `job_workflow_ref`, except in a workflow
    that another one calls. None on servers other than github.com: whether Fulcio accepts their
    tokens is not known.
    """
    workflow = environ.get("GITHUB_WORKFLOW_REF")
    if workflow and environ.get("ACTIONS_ID_TOKEN_REQUEST_URL"):
        if environ.get("GITHUB_SERVER_URL", _GITHUB) != _GITHUB:
            return None
        return PipelineIdentity(
            subject=f"{_GITHUB}/{workflow}", issuer="https://token.actions.githubusercontent.com"
        )
    if token := environ.get("SIGSTORE_ID_TOKEN"):
        claims = _claims(token)
        pipeline, issuer = claims.get("ci_config_ref_uri"), claims.get("iss")
        if isinstance(pipeline, str) and isinstance(issuer, str):
            return PipelineIdentity(subject=f"https://{pipeline}", issuer=issuer)
    return None


def _claims(token: str) -> Mapping[str, Any]:
    """Read the claims of a JSON Web Token (RFC 7519), not verified; empty for other text."""
    parts = token.split(".") if len(token) <= _TOKEN_LIMIT else []
    if len(parts) != 3:
        return {}
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        claims = json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, Mapping) else {}
