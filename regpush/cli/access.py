"""The flags that say how to reach a registry and how to log in: one set for all commands.

The classes hold up to 90 fields and are made at each start. They are neither frozen, compared nor
printed, and this module does not postpone annotations: that saves 25 ms.
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
    """How much a command writes to stderr; each level includes the levels before it."""

    QUIET = -1
    USUAL = 0
    DECISIONS = 1
    REQUESTS = 2


def option(panel: str | None, text: str, *names: str, **more: Any) -> Any:
    """Make a flag in the section `panel` of the help; None lists it with the command's own."""
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
        """Return the level that these flags ask for. Raises UsageError for -q with -v."""
        if self.quiet and self.verbose:
            raise UsageError("-q and -v contradict each other")
        loud = {0: Voice.USUAL, 1: Voice.DECISIONS}
        return Voice.QUIET if self.quiet else loud.get(self.verbose, Voice.REQUESTS)


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class ConfigFlags(VoiceFlags):
    """`VoiceFlags`, and the configuration file."""

    config: Annotated[
        str | None,
        option("Configuration", "Configuration file. Default: the nearest regpush.toml or "
                "pyproject.toml from here upwards.", "--config", metavar="FILE"),
    ] = None  # fmt: skip


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class FileFlags(ConfigFlags):
    """`ConfigFlags`, and the file of logins."""

    authfile: Annotated[
        str | None,
        option(ACCESS, "Read logins from this file first.", "--authfile", metavar="FILE"),
    ] = None


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class RouteFlags(FileFlags):
    """`FileFlags`, and how to connect to a registry."""

    plain_http: Annotated[
        bool,
        option(
            ACCESS, "Use http instead of https; loopback registries need no flag.", "--plain-http"
        ),
    ] = False
    ca_file: Annotated[
        str | None,
        option(ACCESS, "Certificates to trust besides the system's.", "--ca-file", metavar="FILE"),
    ] = None
    cert_file: Annotated[
        str | None, option(ACCESS, "Client certificate to present.", "--cert-file", metavar="FILE")
    ] = None
    key_file: Annotated[
        str | None,
        option(
            ACCESS,
            "Key of the client certificate. Default: in the same file.",
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
        """Return the options that these flags set."""
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
    """`RouteFlags`, and the credentials."""

    username: Annotated[
        str | None, option(ACCESS, "User name, with --password-stdin.", "--username")
    ] = None
    password_stdin: Annotated[
        bool, option(ACCESS, "Read the password from stdin.", "--password-stdin")
    ] = False
    registry_token: Annotated[
        str | None,
        option(ACCESS, "Bearer token to send as it is; better in REGPUSH_REGISTRY_TOKEN.",
               "--registry-token", metavar="TOKEN"),
    ] = None  # fmt: skip

    def access(self, password: str | None) -> RegistryOptions:
        """Return the options that these flags set, with the password that was read."""
        return replace(
            self.route(),
            username=self.username,
            password=password,
            registry_token=self.registry_token,
        )
