"""How a run configuration inherits from that of a base image, like in `docker build`. Pure.

Configurations are the `config` object of OCI image-spec, config.md. Values of the base that violate
the specification are passed on unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from regpush.errors import UsageError, printable
from regpush.options import ImageOptions

Config = Mapping[str, Any]

_DEFAULTS = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
"""Variables that container runtimes set where the image does not."""
_JOINED = ("Labels", "ExposedPorts", "Volumes")
_TAKEN_AWAY = ("Entrypoint", "Cmd", "User", "WorkingDir")
_NOT_INHERITED = ("OnBuild", "Image")
"""Members of a run configuration that are not inherited: build triggers, and Docker's parent
image."""


def own_config(options: ImageOptions, inherited: Config) -> dict[str, Any]:
    """Return the run configuration that `options` ask for.

    A search path such as PATH is put before or after its value in `inherited`, or the container
    runtime's default. Raises UsageError for a malformed port.
    """
    below = {**_DEFAULTS, **_variables(inherited)}
    env = {one.name: one.beside(below.get(one.name, "")) for one in options.search_paths}
    env |= dict(options.env)
    said = {
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Labels": dict(options.labels),
        "ExposedPorts": {port: {} for text in options.expose for port in ports(text)},
        "Volumes": {volume: {} for volume in options.volumes},
        "StopSignal": options.stop_signal,
        "WorkingDir": _home(options, inherited),
    }
    # Empty values are kept here, because they remove the inherited ones.
    decided = {
        "Entrypoint": _list(options.entrypoint),
        "Cmd": _list(options.cmd),
        "User": options.user,
        "WorkingDir": options.workdir,
    }
    config: dict[str, Any] = {key: value for key, value in said.items() if value}
    return config | {key: value for key, value in decided.items() if value is not None}


def _list(words: tuple[str, ...] | None) -> list[str] | None:
    return None if words is None else list(words)


def _home(options: ImageOptions, inherited: Config) -> str:
    """Return the working directory that the kind of app proposes; empty where the base has one.

    BuildKit writes `/` as the working directory where a Dockerfile names none, so a base with `/`
    is treated as a base without a working directory. Empty too for a path with unprintable
    characters.
    """
    said = inherited.get("WorkingDir") or "/"
    return options.home if said == "/" != options.home and options.home.isprintable() else ""


def over(own: Config, inherited: Config) -> dict[str, Any]:
    """Merge two configurations; `own` takes precedence over `inherited`.

    Variables and labels are merged by name, ports and volumes are joined; an entry point of `own`
    removes the command that is inherited. A member that is empty in `own` is removed.
    """
    config = {key: value for key, value in inherited.items() if key not in _NOT_INHERITED}
    if "Entrypoint" in own:
        config.pop("Cmd", None)
    config |= own
    for key in _TAKEN_AWAY:
        if key in own and not own[key]:
            del config[key]
    if env := _variables(inherited) | _variables(own):
        config["Env"] = [f"{name}={value}" for name, value in env.items()]
    for key in _JOINED:
        if joined := {**_mapping(inherited, key), **_mapping(own, key)}:
            config[key] = joined
    return config


def apart(whole: Config, inherited: Config) -> dict[str, Any]:
    """Return the part of `whole` that `inherited` lacks: `over` of both gives `whole` again.

    Members that an image removed, or repeated with equal values, cannot be told from inherited
    ones.
    """
    own = {key: value for key, value in whole.items() if value != inherited.get(key)}
    if own.get("Entrypoint") and "Cmd" in whole:
        own["Cmd"] = whole["Cmd"]
    below = _variables(inherited)
    for key in ("Env", *_JOINED):
        own.pop(key, None)
    if env := {n: v for n, v in _variables(whole).items() if below.get(n) != v}:
        own["Env"] = [f"{name}={value}" for name, value in env.items()]
    for key in _JOINED:
        under = _mapping(inherited, key).items()
        if new := dict(pair for pair in _mapping(whole, key).items() if pair not in under):
            own[key] = new
    return own


def ports(text: str) -> list[str]:
    """Return the ports in `text`, such as `53/udp` or `8000-8003`, as config.md writes them.

    Raises UsageError for other text.
    """
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", text, re.ASCII)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if match is None or not 0 < first <= last < 65536:
        raise UsageError(
            f"bad port '{printable(text)}': expected one such as 8080, 53/udp or 8000-8003"
        )
    return [f"{port}/{match[3] or 'tcp'}" for port in range(first, last + 1)]


def _variables(config: Config) -> dict[str, str]:
    listed = config.get("Env")
    texts = listed if isinstance(listed, list) else []
    return dict(text.partition("=")[::2] for text in texts if isinstance(text, str))


def _mapping(config: Config, key: str) -> dict[str, Any]:
    value = config.get(key)
    return dict(value) if isinstance(value, Mapping) else {}
