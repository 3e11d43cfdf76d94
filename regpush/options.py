"""The options of a push, in one record.

Command-line flags, the configuration file and library callers fill it in. Each step of a push reads
its own part. Nothing here reads the environment: that is `settings.Settings`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any

from regpush.closure import SearchPath
from regpush.entry import Profile
from regpush.errors import UsageError, printable
from regpush.ownership import Rule

_DECIDES = "decides what an item holds"

_DECIDING = {_DECIDES: lambda value: value}
"""Metadata of a field whose value decides the content of items made from listed files, or whether
such an item may be sent."""

_DECIDING_IF_SET: dict[str, Callable[[object], object]] = {_DECIDES: bool}
"""Metadata of a field like `_DECIDING`, where its value does not matter, but whether it is set."""

_ASIDE: dict[str, None] = {_DECIDES: None}
"""Metadata of a field that does not change the content of items made from listed files."""

MAX_LAYERS = 127
"""The maximum of layers in an image: overlayfs and Docker set this limit
(docs/internals/registries.md, section 2, Manifests)."""


class Reuse(Enum):
    """The evidence by which a layer of a previous image is reused.

    RECIPE: the annotations that writers of the repository left. CONTENT: only the diff ID that this
    run derived from the layer's files. NONE: every layer is made anew.
    """

    RECIPE = "recipe"
    CONTENT = "content"
    NONE = "none"


class IfExists(Enum):
    """What a push does where a tag already exists.

    REPLACE: it moves the tag. SAME: it changes nothing if the tag names the same image, else a
    conflict. SKIP: it does not move the tag. FAIL: a conflict.
    """

    REPLACE = "replace"
    SAME = "same"
    SKIP = "skip"
    FAIL = "fail"


class Sbom(Enum):
    """The format of the SBOM that is attached to an image; NONE attaches none."""

    SPDX = "spdx"
    CYCLONEDX = "cyclonedx"
    NONE = "none"


class Algorithm(Enum):
    """The algorithm that compresses layers."""

    GZIP = "gzip"
    ZSTD = "zstd"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Compression:
    """An algorithm and its level: gzip 1 (fast), 6 or 9 (best); zstd 1 to 19; none 0."""

    algorithm: Algorithm = Algorithm.GZIP
    level: int = 6

    @classmethod
    def parse(cls, text: str) -> Compression:
        """Read `gzip[:fast|best]`, `zstd[:1-19]` or `none`. Raises UsageError for other text."""
        match text.partition(":"):
            case ("gzip", "", ""):
                return cls(Algorithm.GZIP, 6)
            case ("gzip", _, "fast"):
                return cls(Algorithm.GZIP, 1)
            case ("gzip", _, "best"):
                return cls(Algorithm.GZIP, 9)
            case ("zstd", "", ""):
                return cls(Algorithm.ZSTD, 3)
            case ("zstd", _, level) if re.fullmatch(r"[1-9]|1[0-9]", level, re.ASCII):
                return cls(Algorithm.ZSTD, int(level))
            case ("none", "", ""):
                return cls(Algorithm.NONE, 0)
        raise UsageError(
            f"bad compression '{printable(text)}': gzip, gzip:fast, gzip:best, zstd, "
            "zstd:1 to zstd:19, or none"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GuixOptions:
    """The options of `guix shell` that decide a Guix profile.

    `manifests` and `files`: paths of Scheme files. `expressions`: Scheme code; each gives a
    package. `target`: a GNU triplet to cross-build for. `options`: transformation and build options
    for guix. `save_provenance`: whether annotations and labels of the image record the channels and
    options. `channels`: a file of channels whose Guix builds.
    """

    manifests: tuple[str, ...] = ()
    expressions: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    target: str | None = None
    options: tuple[str, ...] = ()
    channels: str | None = None
    save_provenance: bool = False

    @property
    def names_packages(self) -> bool:
        """Whether these options alone name a package, so that no target is needed."""
        return bool(self.manifests or self.expressions or self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class NixOptions:
    """The options of Nix's command line that apply to `nix:` targets.

    `store`: the URL of the store (Nix manual, "Store URL format"), None for the default.
    `evaluation`: options of evaluation (`--impure`, `--arg NAME EXPRESSION`, `-I PATH`, …), each as
    its words; `settings`: (name, value) pairs of nix.conf. `caches`: binary caches to ask before
    the configured ones.
    """

    store: str | None = None
    evaluation: tuple[tuple[str, ...], ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    caches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockOptions:
    """How the packages of a lock file are chosen and fetched.

    `extras` and `groups`: names of optional dependencies and dependency groups to add. `package`:
    the member of a workspace to push, None for the one at the target. `python`: the version X.Y or
    X.Y.Z, None to find it out. `python_path`: the interpreter's path in the base, empty for the
    default. `libc`: like `glibc-2.36` or `musl-1.2`, None to find it out. `find_links`: folders of
    wheels, for packages without a fitting wheel in the lock. `project_wheels`: wheels to add, such
    as the project's own. `compile`: add compiled files to packages of Python. `index_url`: a
    mirror, whose origin replaces the origin of URLs in the lock.
    """

    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    package: str | None = None
    python: str | None = None
    python_path: str = ""
    libc: str | None = None
    find_links: tuple[str, ...] = ()
    project_wheels: tuple[str, ...] = ()
    compile: bool = False
    index_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How a target becomes items.

    `root_dir`: the directory in the image for the files of a directory target. `preserve`: keep
    modes, owners and hard links, which a `root_dir` of `/` implies. `preserve_xattrs`: keep
    extended attributes. `allow_secrets`: gitignore patterns of files to push although they look
    like secrets. `own_state`: paths on this machine that regpush writes to; a directory is pushed
    without them. `rules`: owners and modes in the image. `system`: the platform that Nix and Guix
    build for (`aarch64-linux`), None for that of the image. `link_roots`: paths, relative to the
    target, whose trees are linked into the image's root. `base`: the reference of the base image;
    None for the one that the kind of target wants, or for none with `bare`. `lock`: for targets
    with a lock file.
    """

    root_dir: str = field(default="/app", metadata=_DECIDING)
    preserve: bool = field(default=False, metadata=_DECIDING)
    preserve_xattrs: bool = field(default=False, metadata=_DECIDING)
    allow_secrets: tuple[str, ...] = field(default=(), metadata=_DECIDING)
    own_state: tuple[str, ...] = field(default=(), metadata=_ASIDE)  # those files are not listed
    rules: tuple[Rule, ...] = field(default=(), metadata=_DECIDING)
    system: str | None = field(default=None, metadata=_ASIDE)
    nix: NixOptions = field(default=NixOptions(), metadata=_ASIDE)
    guix: GuixOptions = field(default=GuixOptions(), metadata=_ASIDE)
    link_roots: tuple[str, ...] = field(default=(), metadata=_ASIDE)  # become items of their own
    base: str | None = field(default=None, metadata=_DECIDING_IF_SET)
    bare: bool = field(default=False, metadata=_ASIDE)
    lock: LockOptions = field(default=LockOptions(), metadata=_ASIDE)

    @property
    def profile(self) -> Profile:
        """The profile (normalisation of metadata) for the entries of a directory target."""
        tree = self.preserve or self.preserve_xattrs or self.root_dir == "/"
        return Profile.TREE if tree else Profile.STORE

    @property
    def deciding(self) -> dict[str, Any]:
        """The options that decide the content of items made from listed files, by name.

        The values are JSON types. The metadata of each field says whether it is one of them.
        """
        return {
            one.name: _plain(decides(getattr(self, one.name)))
            for one in fields(self)
            if (decides := one.metadata[_DECIDES])
        }


def _plain(value: object) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, (str, int, type(None))) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOptions:
    """How items become layers.

    `strategy`: a name of `layering.strategies`. `compression`: None for the default, which also
    accepts reusable layers of any compression. `reuse_from`: references of images whose layers may
    be reused. `layout_from`: digests of manifests in the repository; the strategy `auto` then plans
    from these images alone.
    """

    strategy: str = "stable"
    max_layers: int = 64
    compression: Compression | None = None
    reuse: Reuse = Reuse.RECIPE
    reuse_from: tuple[str, ...] = ()
    layout_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """The configuration of the image, in the terms of `docker run` and `docker inspect`.

    `symlinks`: (path in the image, target) pairs. `essentials`: whether an image of store items
    gets users, /bin/sh and certificates (module `essentials`). `created`: seconds since the epoch,
    None for the fixed default. `platforms`: `os/architecture[/variant]` each, with one image for
    every platform; empty to find the platform out. `search_paths`: variables that the source sets;
    those of `env` win. `home`: the working directory that the source proposes, if the base has
    none. `entrypoint`, `cmd`, `user` and `workdir`: None to inherit the base's value; an empty
    value removes it.
    """

    platforms: tuple[str, ...] = ()
    created: int | None = None
    env: tuple[tuple[str, str], ...] = ()
    search_paths: tuple[SearchPath, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    user: str | None = None
    workdir: str | None = None
    home: str = ""
    expose: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    symlinks: tuple[tuple[str, str], ...] = ()
    essentials: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOptions:
    """How to reach registries, and which tags to move.

    `also_to`: references of further destinations for the same image. `tags`: empty for the tag of
    the reference, or `latest`. `by_digest`: move no tag. `replace_index`: whether an image may
    replace an index of several platforms. `check`: ask for every blob even of an unchanged image.
    `retry_times`: attempts after the first. `stall_s`: seconds without progress after which a
    request fails. `if_exists` and `if_current`: which tags may move; the latter is a digest.
    `max_upload`: the most bytes of layers to send, None for no limit. User name, password, token,
    client certificate, `plain_http` and `insecure_skip_tls_verify` apply to the destination alone;
    `from_plain_http` to all other registries; `ca_file` and `authfile` to every registry.
    """

    also_to: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    by_digest: bool = False
    replace_index: bool = False
    check: bool = False
    plain_http: bool = False
    from_plain_http: bool = False
    insecure_skip_tls_verify: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    authfile: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    registry_token: str | None = field(default=None, repr=False)
    retry_times: int = 4
    jobs: int = 4
    stall_s: float = 60.0
    if_exists: IfExists = IfExists.REPLACE
    if_current: str | None = None
    max_upload: int | None = None

    @property
    def elsewhere(self) -> RegistryOptions:
        """The options for registries other than the destination, without its credentials."""
        return replace(
            self,
            plain_http=self.from_plain_http,
            insecure_skip_tls_verify=False,
            cert_file=None,
            key_file=None,
            username=None,
            password=None,
            registry_token=None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachOptions:
    """The documents that are attached to an image before its tags move.

    `sbom`: the format of an SBOM. `provenance`: whether to attach a statement of the image's
    materials. `sign`: whether cosign signs, with `sign_key` (cosign's `--key`), or without a key
    where that is None. `sign_identity` and `sign_issuer`: identity and issuer in the certificate of
    an existing signature, which makes another signature unnecessary. `sign_options`: words for
    `cosign sign`. `sign_recursive`: sign each image of an index too.
    """

    sbom: Sbom = Sbom.NONE
    provenance: bool = False
    sign: bool = False
    sign_key: str | None = None
    sign_identity: str | None = None
    sign_issuer: str | None = None
    sign_options: tuple[str, ...] = ()
    sign_recursive: bool = False

    @property
    def vouches(self) -> bool:
        """Whether this run attaches a provenance statement or a signature."""
        return self.provenance or self.sign

    @property
    def attaches(self) -> bool:
        """Whether anything is to be attached to images: an SBOM, provenance or a signature."""
        return self.vouches or self.sbom is not Sbom.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """All options of a push.

    `cache`: whether the cache folder is read and written. `strict`: raise UsageError for each
    `events.InputWarned`, before any tag moves.
    """

    source: SourceOptions = SourceOptions()
    layers: LayerOptions = LayerOptions()
    image: ImageOptions = ImageOptions()
    registry: RegistryOptions = RegistryOptions()
    attach: AttachOptions = AttachOptions()
    cache: bool = True
    strict: bool = False
