"""What a user may ask for: one record, whoever fills it in.

Flags, the configuration file and library callers all end here. Each station of the flow
takes its own part of the record. Nothing in here reads the environment; what the machine
says stands in `settings.Settings`.
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
"""Metadata of a field on which depends what an item of files that were listed holds, or whether it
may be sent."""

_DECIDING_IF_SET: dict[str, Callable[[object], object]] = {_DECIDES: bool}
"""Metadata of such a field of which matters only whether it is set."""

_ASIDE: dict[str, None] = {_DECIDES: None}
"""Metadata of a field that changes no such item."""

MAX_LAYERS = 127
"""Layers an image may have at most: overlayfs and Docker set this limit
(docs/internals/registries.md, section 2, Manifests)."""


class Reuse(Enum):
    """What makes a layer of a previous image count as the one that is wanted.

    RECIPE trusts what writers of the repository annotated. CONTENT takes only a blob whose
    diff ID this run derived. NONE makes every layer anew.
    """

    RECIPE = "recipe"
    CONTENT = "content"
    NONE = "none"


class IfExists(Enum):
    """What becomes of a tag that is there already.

    REPLACE moves it. SAME takes it for done if it names the very image, and is a conflict
    otherwise. SKIP leaves it alone. FAIL makes any such tag a conflict.
    """

    REPLACE = "replace"
    SAME = "same"
    SKIP = "skip"
    FAIL = "fail"


class Sbom(Enum):
    """The format of the list of an image's parts that is attached to it, if any."""

    SPDX = "spdx"
    CYCLONEDX = "cyclonedx"
    NONE = "none"


class Algorithm(Enum):
    """Layer compression."""

    GZIP = "gzip"
    ZSTD = "zstd"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Compression:
    """An algorithm and its level: gzip 1 (fast), 6 or 9 (best), zstd 1 to 19, none 0."""

    algorithm: Algorithm = Algorithm.GZIP
    level: int = 6

    @classmethod
    def parse(cls, text: str) -> Compression:
        """Read `gzip[:fast|best]`, `zstd[:1-19]` or `none`. Raises UsageError."""
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
    """What beside its packages makes a Guix profile, in the terms of `guix shell`.

    `manifests` and `files`: paths of Scheme files; `expressions`: Scheme, each a package.
    `target`: a GNU triplet to cross-build for. `options`: transformation and build options,
    passed on verbatim. `save_provenance`: which channels and options it was made with goes
    into the image's annotations and labels. `channels`: a file of channels whose Guix builds.
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
        """Whether there is something to make a profile of, without any target."""
        return bool(self.manifests or self.expressions or self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class NixOptions:
    """How Nix evaluates and builds `nix:` targets, in the terms of its command line.

    `store`: the store that Nix works in (Nix manual, "Store URL format"), None for its own.
    `evaluation`: words for what evaluates (`--impure`, `--arg NAME EXPRESSION`, `-I PATH`, …);
    `settings`: (name, value) pairs of nix.conf. `caches`: binary caches to ask before those
    that Nix is configured with.
    """

    store: str | None = None
    evaluation: tuple[tuple[str, ...], ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    caches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockOptions:
    """How the packages of a lock file are chosen and fetched.

    `extras` and `groups`: names of optional dependencies and dependency groups that are wanted
    too. `package`: the member of a workspace to push, None for the one at the target. `python`:
    its version, as X.Y or X.Y.Z, None to find out. `python_path`: where the interpreter is in
    the base, empty for the usual place. `libc`: such as `glibc-2.36` or `musl-1.2`, None to find
    out. `find_links`: folders of wheels, for packages that the lock has none of.
    `project_wheels`: wheels to install as they are, such as the project's own. `index_url`: its
    origin takes the place of that of URLs in the lock.
    """

    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    package: str | None = None
    python: str | None = None
    python_path: str = ""
    libc: str | None = None
    find_links: tuple[str, ...] = ()
    project_wheels: tuple[str, ...] = ()
    index_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """How a target becomes items.

    `root_dir`: where a directory lands in the image. `preserve`: keep modes, owners and hard
    links below `root_dir` too, as always with `/`. `preserve_xattrs`: extended attributes
    as well. `allow_secrets`: gitignore patterns of files that look like secrets and are
    wanted all the same. `own_state`: paths on this machine that regpush writes to, which no image
    of a directory holds. `rules`: owners and modes of what is in the image. `system`: what Nix and
    Guix build for (`aarch64-linux`), None for the platform that was asked for. `link_roots`:
    paths whose trees appear in the image's root, as links; relative to the target. `base`: the
    reference of an image that this one is to stand on; with None it stands on the one that the
    source wants, if that wants any, unless `bare`. `lock`: for targets with a lock file.
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
        """The archive profile for a directory."""
        tree = self.preserve or self.preserve_xattrs or self.root_dir == "/"
        return Profile.TREE if tree else Profile.STORE

    @property
    def deciding(self) -> dict[str, Any]:
        """The values, as JSON has them, on which depends what the items of listed files hold.

        Each field says itself, where it is declared, whether it is one of them.
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

    `compression` None is the default one, which accepts whatever a reusable layer was
    compressed with. `reuse_from`: references of images to reuse layers of. `layout_from`:
    digests of manifests in the repository; a strategy that learns then looks at these alone.
    """

    strategy: str = "stable"
    max_layers: int = 64
    compression: Compression | None = None
    reuse: Reuse = Reuse.RECIPE
    reuse_from: tuple[str, ...] = ()
    layout_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """The image's configuration, as `docker run` and `docker inspect` know it.

    `symlinks`: (path in the image, target) pairs. `essentials`: whether an image of a store
    gets what programs expect of any system (module `essentials`). `created`: seconds since
    the epoch, or None for the fixed default. `platforms`: `os/architecture[/variant]` each,
    an image for every one of them; none to find out. `search_paths`: variables as the source
    wants them; those of `env` win.
    `entrypoint`, `cmd`, `user` and `workdir` are None where nothing is said of them; empty, they
    take away what a base says.
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
    """How to talk to registries, and which tags to move.

    `also_to`: references of further destinations, which get the same image at the same time.
    `tags`: empty means the reference's own, or `latest`. `retry_times`: further attempts
    after the first. `check`: HEAD every blob even where the image is known to be there.
    `stall_s`: seconds without progress after which a request has failed. `if_exists` and
    `if_current`: which tags may be moved; the latter is a digest.
    `max_upload`: bytes of layers that may be sent, None for any number.
    What lets in (a user name with its password, a token), and what makes a connection less
    or more than the usual (`plain_http`, a client certificate, not verifying the registry's)
    is for the destination alone; `from_plain_http` is for all other registries, `ca_file` and
    `authfile` are for every one.
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
        """The same for a registry that is not the destination."""
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
    """What is attached to an image before its tags move.

    `sbom`: a list of its parts. `provenance`: a statement of what it was made from. `sign`: a
    signature by cosign, with `sign_key`, whatever cosign takes for one, or by an identity.
    `sign_identity` and `sign_issuer`: of the certificate by which an identity's signature is
    known again. `sign_options`: words for `cosign sign`. `sign_recursive`: of an index, each
    image is signed as well.
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
        """Whether others are told that the image is what this run made it from."""
        return self.provenance or self.sign


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """Everything a push can be told.

    `cache` False leaves the local index alone. `strict`: each `events.InputWarned` is a
    UsageError instead, before any tag moves.
    """

    source: SourceOptions = SourceOptions()
    layers: LayerOptions = LayerOptions()
    image: ImageOptions = ImageOptions()
    registry: RegistryOptions = RegistryOptions()
    attach: AttachOptions = AttachOptions()
    cache: bool = True
    strict: bool = False
