"""Make command lines of `nix` and the `nix-*` programs, and read Nix's configuration.

They work with Nix from 2.8 on, and with Lix.
"""

from __future__ import annotations

from msgspec import Struct

from regpush.options import NixOptions
from regpush.sources.tools import ToolError, Workshop, find_program

_FEATURES = "nix-command flakes"
"""Experimental features of Nix that every command switches on: flakes and caches need them."""


class NixConfig(Struct, frozen=True, kw_only=True):
    """The settings of Nix that regpush needs, as Nix merges them from nix.conf and NIX_CONFIG.

    `substituters`: URLs of binary caches. `require_sigs`: whether paths from caches need a trusted
    signature. `flakes`: whether the user has enabled flakes. Nix manual, nix.conf.
    """

    substituters: tuple[str, ...]
    require_sigs: bool
    flakes: bool


def has_nix() -> bool:
    """Whether the program `nix` is on the PATH."""
    return find_program("nix") is not None


def command(*words: str) -> tuple[str, ...]:
    """Return the command line `nix WORDS…`, with the experimental features that regpush needs."""
    return ("nix", *words, "--extra-experimental-features", _FEATURES)


def settings_of(options: NixOptions) -> list[str]:
    """Return `--store` and `--option` arguments for the user's `options`.

    All programs of Nix accept them.
    """
    store = ["--store", options.store] if options.store else []
    return store + [word for pair in options.settings for word in ("--option", *pair)]


def config(workshop: Workshop) -> NixConfig:
    """Read Nix's configuration on this machine. Raises ToolError, CancelledError."""
    # `command` would enable flakes, and hide whether the user's configuration does.
    asked = ("nix", "--extra-experimental-features", "nix-command")
    try:
        said = workshop.ask(*asked, "show-config")
    except ToolError:
        said = workshop.ask(*asked, "config", "show")  # the command's name from Nix 2.20 on
    settings = {}
    for line in said.splitlines():
        name, _, value = line.partition(" = ")
        settings[name.rstrip(" =")] = value
    return NixConfig(
        substituters=tuple(settings.get("substituters", "").split()),
        require_sigs=settings.get("require-sigs") != "false",
        flakes="flakes" in settings.get("experimental-features", "").split(),
    )
