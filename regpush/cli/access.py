"""The flags about access to a registry, logins and output, which all commands share.

These classes of flags, with up to 90 fields, are created at each start. They are neither frozen nor
comparable nor printable, and annotations are not postponed in this module: that saves 25 ms.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Annotated, Any

import typer

from regpush.errors import UsageError
from regpush.options import RegistryOptions

RegistryArgument = Annotated[
    str,
    typer.Argument(
        metavar="REGISTRY",
        help="A host with or without a port: registry.example.com, localhost:5000, docker.io.",
        show_default=False,
    ),
]

ACCESS, OUTPUT = "Access to the registry", "Output"


class Voice(IntEnum):
    """How much a command writes to stderr: with -q, without a flag, with -v, with -vv."""

    QUIET = -1
    USUAL = 0
    DECISIONS = 1
    REQUESTS = 2


def option(panel: str | None, text: str, *names: str, **more: Any) -> Any:
    """Make a typer flag with the help `text`, listed in the section `panel` of the help.

    Without a section, the flag is listed with the flags of its command alone. `more`: further
    arguments of `typer.Option`.
    """
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False, **more)


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class VoiceFlags:
    """The flags -q and -v."""

    quiet: Annotated[bool, option(OUTPUT, "Print only errors and the result.", "-q", "--quiet")] = (
        False
    )
    verbose: Annotated[
        int,
        option(OUTPUT, "Print decisions and their reasons; -vv: every request too.",
                "-v", "--verbose",
               count=True),
    ] = 0  # fmt: skip

    @property
    def voice(self) -> Voice:
        """The level that these flags select. Raises UsageError for -q together with -v."""
        if self.quiet and self.verbose:
            raise UsageError("-q and -v contradict each other; give only one of them")
        loud = {0: Voice.USUAL, 1: Voice.DECISIONS}
        return Voice.QUIET if self.quiet else loud.get(self.verbose, Voice.REQUESTS)


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class ConfigFlags(VoiceFlags):
    """The flag for the configuration file, and the flags of `VoiceFlags`."""

    config: Annotated[
        str | None,
        option("Configuration", "Configuration file. Default: the nearest regpush.toml or "
                "pyproject.toml in this directory or above.", "--config", metavar="FILE"),
    ] = None  # fmt: skip


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class FileFlags(ConfigFlags):
    """The flag for the file with logins, and the flags of `ConfigFlags`."""

    authfile: Annotated[
        str | None,
        option(
            ACCESS, "Read logins from FILE before other login files.", "--authfile", metavar="FILE"
        ),
    ] = None


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class RouteFlags(FileFlags):
    """The flags for the connection to a registry: http and certificates; those of `FileFlags`."""

    plain_http: Annotated[
        bool,
        option(
            ACCESS, "Use http instead of https; loopback registries need no flag.", "--plain-http"
        ),
    ] = False
    ca_file: Annotated[
        str | None,
        option(
            ACCESS,
            "CA certificates (PEM) to trust besides the system's.",
            "--ca-file",
            metavar="FILE",
        ),
    ] = None
    cert_file: Annotated[
        str | None,
        option(
            ACCESS,
            "Client certificate (PEM) to present to the registry.",
            "--cert-file",
            metavar="FILE",
        ),
    ] = None
    key_file: Annotated[
        str | None,
        option(
            ACCESS,
            "Private key (PEM) of the client certificate. Default: the key in --cert-file.",
            "--key-file",
            metavar="FILE",
        ),
    ] = None
    insecure_skip_tls_verify: Annotated[
        bool,
        option(ACCESS, "Do not verify the registry's certificate.",
               "--insecure-skip-tls-verify"),
    ] = False  # fmt: skip

    def route(self) -> RegistryOptions:
        """Return the registry options that these flags set, without credentials."""
        return RegistryOptions(
            plain_http=self.plain_http,
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
            insecure_skip_tls_verify=self.insecure_skip_tls_verify,
            authfile=self.authfile,
        )


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class AccessFlags(RouteFlags):
    """The flags for user name, password and token, and the flags of `RouteFlags`."""

    username: Annotated[
        str | None,
        option(ACCESS, "User name at the registry; needs --password-stdin.", "--username"),
    ] = None
    password_stdin: Annotated[
        bool, option(ACCESS, "Read the password of --username from stdin.", "--password-stdin")
    ] = False
    registry_token: Annotated[
        str | None,
        option(ACCESS, "Bearer token to send to the registry. Other users can read command lines: "
               "better set REGPUSH_REGISTRY_TOKEN.", "--registry-token", metavar="TOKEN"),
    ] = None  # fmt: skip

    def access(self, password: str | None) -> RegistryOptions:
        """Return the registry options that these flags set, with `password` as read from stdin."""
        return replace(
            self.route(),
            username=self.username,
            password=password,
            registry_token=self.registry_token,
        )
