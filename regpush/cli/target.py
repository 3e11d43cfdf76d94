"""The flags about a target that decide the bytes of its layers. Pushes and `verify` have them."""

import shlex
from dataclasses import dataclass, field
from typing import Annotated

from regpush.cli.access import option as _option
from regpush.cli.words import NIX_WORDS
from regpush.errors import UsageError, printable
from regpush.options import (
    GuixOptions,
    ImageOptions,
    LockOptions,
    NixOptions,
    SourceOptions,
)
from regpush.ownership import Rule

SOURCE, LOCKED, IMAGE = "The target", "Targets with a lock file (python:, node:)", "The image"
STORES = "Targets of Nix and Guix"


@dataclass(kw_only=True, eq=False, repr=False)
class TargetFlags:
    """The flags about the target, not yet parsed.

    The class has no slots, because a class can have two base classes with fields only if one of
    them has no slots.
    """

    root_dir: Annotated[
        str,
        _option(
            SOURCE,
            "Directory in the image for the files of a directory target (/app).",
            "--root-dir",
        ),
    ] = "/app"
    preserve: Annotated[
        bool,
        _option(SOURCE, "Keep owners, modes and hard links of files; implied by --root-dir /.",
                "--preserve"),
    ] = False  # fmt: skip
    preserve_xattrs: Annotated[
        bool, _option(SOURCE, "Like --preserve, and keep extended attributes.", "--preserve-xattrs")
    ] = False
    chown: Annotated[
        list[str],
        _option(SOURCE, "Numeric owner of the paths in the image that PATTERN matches, or of all "
                "paths; repeatable.", "--chown",
                metavar="[PATTERN=]UID:GID"),
    ] = field(default_factory=list)  # fmt: skip
    chmod: Annotated[
        list[str],
        _option(
            SOURCE,
            "Mode of the paths in the image that PATTERN matches; repeatable.",
            "--chmod",
            metavar="PATTERN=MODE",
        ),
    ] = field(default_factory=list)
    link_root: Annotated[
        list[str],
        _option(SOURCE, "Link the files below PATH, in the target or one of its store items, into "
                "the image's root directory; repeatable.", "--link-root", metavar="PATH"),
    ] = field(default_factory=list)  # fmt: skip
    system: Annotated[
        str | None,
        _option(
            STORES, "System that Nix and Guix build for, such as aarch64-linux.", "-s", "--system"
        ),
    ] = None
    nix_cache: Annotated[
        list[str],
        _option(STORES, "A binary cache to use before those in Nix's configuration; repeatable.",
                "--nix-cache", metavar="URL"),
    ] = field(default_factory=list)  # fmt: skip
    store: Annotated[
        str | None,
        _option(STORES, "URL of Nix's store, such as local?root=/mnt. Default: NIX_REMOTE.",
                "--store", metavar="URL"),
    ] = None  # fmt: skip
    nix_option: Annotated[
        list[str],
        _option(STORES, "A setting of nix.conf for this build; repeatable. --impure, --arg, "
                "--argstr, --override-input and -I may be given directly.",
                "--nix-option", metavar="NAME VALUE"),
    ] = field(default_factory=list)  # fmt: skip
    channels: Annotated[
        str | None,
        _option(STORES, "Build with the Guix of these channels, like `guix time-machine -C FILE`.",
                "--channels", metavar="FILE"),
    ] = None  # fmt: skip
    manifest: Annotated[
        list[str],
        _option(STORES, "Add the packages of this manifest to the Guix profile; repeatable.",
                "-m", "--manifest", metavar="FILE"),
    ] = field(default_factory=list)  # fmt: skip
    expression: Annotated[
        list[str],
        _option(STORES, "Add the package that this Scheme expression returns to the Guix profile; "
                "repeatable.", "--expression", metavar="SCHEME"),
    ] = field(default_factory=list)  # fmt: skip
    file: Annotated[
        list[str],
        _option(STORES, "Add the package that the Scheme code in FILE returns to the Guix "
                "profile; repeatable.", "--file", metavar="FILE"),
    ] = field(default_factory=list)  # fmt: skip
    guix_target: Annotated[
        str | None,
        _option(STORES, "Cross-build with Guix for this triplet, such as aarch64-linux-gnu.",
                "--guix-target",
                metavar="TRIPLET"),
    ] = None  # fmt: skip
    guix_option: Annotated[
        list[str],
        _option(STORES, "An option for Guix; repeatable. Package transformations such as "
                "--with-input=… may be given directly.", "--guix-option", metavar="OPTION"),
    ] = field(default_factory=list)  # fmt: skip
    save_provenance: Annotated[
        bool,
        _option(STORES, "Record Guix's channels and options in the image's labels and "
                "annotations.", "--save-provenance"),
    ] = False  # fmt: skip
    extra: Annotated[
        list[str],
        _option(LOCKED, "An extra (optional dependencies) to install; repeatable.", "--extra",
                metavar="NAME"),
    ] = field(default_factory=list)  # fmt: skip
    group: Annotated[
        list[str],
        _option(LOCKED, "A dependency group to install; repeatable.", "--group", metavar="NAME"),
    ] = field(default_factory=list)  # fmt: skip
    package: Annotated[
        str | None,
        _option(LOCKED, "The workspace member to push. Default: the member in the target's "
                "directory.",
                "--package", metavar="NAME"),
    ] = None  # fmt: skip
    python: Annotated[
        str | None,
        _option(LOCKED, "Python version of the image, such as 3.13. Default: the version in "
                ".python-version, else the base's.", "--python", metavar="VERSION"),
    ] = None  # fmt: skip
    python_path: Annotated[
        str,
        _option(LOCKED, "Path of Python in the base image (/usr/local/bin/python3).",
                "--python-path",
                metavar="PATH"),
    ] = ""  # fmt: skip
    libc: Annotated[
        str | None,
        _option(LOCKED, "C library of the base image, such as glibc-2.36 or musl-1.2. Default: "
                "detected.",
                "--libc"),
    ] = None  # fmt: skip
    find_links: Annotated[
        list[str],
        _option(LOCKED, "Folder of wheels, for packages without a fitting wheel in the lock file; "
                "repeatable.", "--find-links", metavar="DIR"),
    ] = field(default_factory=list)  # fmt: skip
    project_wheel: Annotated[
        list[str],
        _option(LOCKED, "A wheel to install, such as the built wheel of the project itself; "
                "repeatable.", "--project-wheel", metavar="FILE"),
    ] = field(default_factory=list)  # fmt: skip
    compile: Annotated[
        bool,
        _option(LOCKED, "Add .pyc files to Python packages, so that the app starts faster; this "
                "machine must have the image's Python version.", "--compile"),
    ] = False  # fmt: skip
    index_url: Annotated[
        str | None,
        _option(LOCKED, "Mirror of the package index: its scheme, host and port replace those of "
                "URLs in the lock file.",
                "--index-url", metavar="URL"),
    ] = None  # fmt: skip
    symlink: Annotated[
        list[str],
        _option(IMAGE, "A link in the image: /bin=bin makes /bin point to the target's bin; "
                "repeatable.", "-S", "--symlink", metavar="SOURCE=TARGET"),
    ] = field(default_factory=list)  # fmt: skip
    no_essentials: Annotated[
        bool,
        _option(IMAGE, "Do not add users, /bin/sh, certificates and the like to an image of store "
                "items.",
                "--no-essentials"),
    ] = False  # fmt: skip

    def source(self) -> SourceOptions:
        """Return the options for reading the target that these flags set.

        Raises UsageError, naming the flag, for a bad value.
        """
        return SourceOptions(
            root_dir=self.root_dir,
            preserve=self.preserve,
            preserve_xattrs=self.preserve_xattrs,
            system=self.system,
            nix=_nix(self.store, self.nix_option, self.nix_cache),
            guix=GuixOptions(
                manifests=tuple(self.manifest),
                expressions=tuple(self.expression),
                files=tuple(self.file),
                target=self.guix_target,
                options=tuple(self.guix_option),
                channels=self.channels,
                save_provenance=self.save_provenance,
            ),
            lock=LockOptions(
                extras=tuple(self.extra),
                groups=tuple(self.group),
                package=self.package,
                python=self.python,
                python_path=self.python_path,
                libc=self.libc,
                find_links=tuple(self.find_links),
                project_wheels=tuple(self.project_wheel),
                compile=self.compile,
                index_url=self.index_url,
            ),
            link_roots=tuple(self.link_root),
            rules=(*map(Rule.chown, self.chown), *map(Rule.chmod, self.chmod)),
        )

    def additions(self) -> ImageOptions:
        """Return the image options that --symlink and --no-essentials set.

        Raises UsageError for a bad value of --symlink.
        """
        return ImageOptions(
            symlinks=pairs("--symlink", self.symlink, "SOURCE=TARGET"),
            essentials=not self.no_essentials,
        )


def _nix(store: str | None, options: list[str], caches: list[str]) -> NixOptions:
    """Return the options for Nix that --store, --nix-option and --nix-cache set.

    Raises UsageError for an unknown option or a wrong number of values in --nix-option.
    """
    evaluation: list[tuple[str, ...]] = []
    settings: list[tuple[str, str]] = []
    for text in options:
        name, *values = _split(text)
        if len(values) != (count := NIX_WORDS.get(name, 1)):
            raise UsageError(
                f"bad --nix-option '{printable(text)}': {printable(name)} takes "
                f"{count} {'value' if count == 1 else 'values'}, {len(values)} given"
            )
        if name in NIX_WORDS:
            evaluation.append((name, *values))
        elif name.startswith("-"):
            known = ", ".join(NIX_WORDS)
            raise UsageError(
                f"--nix-option accepts {known} and settings of nix.conf, not {printable(name)}"
            )
        else:
            settings.append((name, values[0]))
    return NixOptions(
        store=store,
        evaluation=tuple(evaluation),
        settings=tuple(settings),
        caches=tuple(caches),
    )


def _split(text: str) -> list[str]:
    """Split a value of `--nix-option` into words by the rules of a shell.

    Raises UsageError if there is no word, or a quote is not closed.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:  # shlex has one other message: "No escaped character"
        fault = "a quote is not closed" if "quotation" in str(error) else "it ends in a backslash"
        raise UsageError(f"bad --nix-option '{printable(text)}': {fault}") from None
    if not words:
        raise UsageError(f"bad --nix-option '{printable(text)}': write NAME VALUE")
    return words


def pairs(flag: str, texts: list[str], form: str = "NAME=VALUE") -> tuple[tuple[str, str], ...]:
    """Parse the `NAME=VALUE` values of a flag into pairs. Raises UsageError for other values.

    `form`: the form of a value that the error names.
    """
    found = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"bad {flag} '{printable(text)}': write it as {form}")
        found.append((key, value))
    return tuple(found)
