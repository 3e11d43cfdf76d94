"""What a run configuration takes over from the one below it, as `docker build` does. Pure.

Configurations are the `config` object of OCI image-spec, config.md. What somebody else wrote
may be of any form: what is not of the specified one is passed on and otherwise left alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from regpush.errors import UsageError, printable
from regpush.options import ImageOptions

Config = Mapping[str, Any]

_DEFAULTS = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
"""What container runtimes give programs where the image says nothing."""
_JOINED = ("Labels", "ExposedPorts", "Volumes")
_TAKEN_AWAY = ("Entrypoint", "Cmd", "User", "WorkingDir")
_NOT_INHERITED = ("OnBuild", "Image")
"""What is to be done when an image is built on this one, once and not by us; and its parent."""


def own_config(options: ImageOptions, inherited: Config) -> dict[str, Any]:
    """What the user and the source asked for, and nothing else. Raises UsageError for a bad port.

    Search paths stand before, or after, what is `inherited`, or what every runtime looks in.
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
    # Also where they are empty: then they take away what is below.
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
    """Where the directory lands, unless a base names a working directory.

    BuildKit writes `/` where a Dockerfile says nothing, so that counts as none.
    """
    said = inherited.get("WorkingDir") or "/"
    return options.home if said == "/" != options.home and options.home.isprintable() else ""


def over(own: Config, inherited: Config) -> dict[str, Any]:
    """`own` on top of `inherited`, winning.

    Variables and labels are taken one by one, ports and volumes together; an entry point
    drops the command below it, which was for another. What is empty in `own` is in neither then.
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
    """What `whole` has beyond `inherited`: put over that, it gives `whole` again.

    But for what was removed, and for what was said to be just as below, which nobody can see.
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
    """`8080`, `53/udp` or `8000-8003` as config.md writes ports. Raises UsageError."""
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", text, re.ASCII)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if match is None or not 0 < first <= last < 65536:
        raise UsageError(f"bad port '{printable(text)}': such as 8080, 53/udp or 8000-8003")
    return [f"{port}/{match[3] or 'tcp'}" for port in range(first, last + 1)]


def _variables(config: Config) -> dict[str, str]:
    listed = config.get("Env")
    texts = listed if isinstance(listed, list) else []
    return dict(text.partition("=")[::2] for text in texts if isinstance(text, str))


def _mapping(config: Config, key: str) -> dict[str, Any]:
    value = config.get(key)
    return dict(value) if isinstance(value, Mapping) else {}
