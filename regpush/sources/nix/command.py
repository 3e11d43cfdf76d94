"""Command lines of `nix` and the `nix-*` programs, from Nix 2.8 on, and of Lix."""

from __future__ import annotations

from dataclasses import dataclass

from regpush.options import NixOptions
from regpush.sources.tools import ToolError, Workshop, find_program

_FEATURES = "nix-command flakes"
"""Switched on for every command: flakes and binary caches need them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NixConfig:
    """The settings of Nix that regpush needs, from nix.conf, NIX_CONFIG and others.

    Nix manual, nix.conf.
    """

    substituters: tuple[str, ...]
    require_sigs: bool
    flakes: bool


def has_nix() -> bool:
    """Whether Nix's programs are on the PATH."""
    return find_program("nix") is not None


def command(*words: str) -> tuple[str, ...]:
    """Return the command line `nix WORDS`."""
    return ("nix", *words, "--extra-experimental-features", _FEATURES)


def settings_of(options: NixOptions) -> list[str]:
    """Convert the store and settings of `options` into arguments that all Nix programs accept."""
    store = ["--store", options.store] if options.store else []
    return store + [word for pair in options.settings for word in ("--option", *pair)]


def config(workshop: Workshop) -> NixConfig:
    """Read Nix's configuration on this machine. Raises ToolError, CancelledError."""
    # Not by `command`: which features the user has is asked here.
    asked = ("nix", "--extra-experimental-features", "nix-command")
    try:
        said = workshop.ask(*asked, "show-config")
    except ToolError:
        said = workshop.ask(*asked, "config", "show")  # its name from 2.20 on
    settings = {}
    for line in said.splitlines():
        name, _, value = line.partition(" = ")
        settings[name.rstrip(" =")] = value
    return NixConfig(
        substituters=tuple(settings.get("substituters", "").split()),
        require_sigs=settings.get("require-sigs") != "false",
        flakes="flakes" in settings.get("experimental-features", "").split(),
    )
