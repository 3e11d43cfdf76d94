"""Read pnpm's configuration: how packages are laid out, and whose install scripts are run.

pnpm documentation, "Settings (pnpm-workspace.yaml)": a name is in camelCase in that file, and has
hyphens in `.npmrc`; `pnpm-workspace.yaml` takes precedence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from regpush.sources.node.lock import read_manifest
from regpush.sources.node.npmrc import Npmrc
from regpush.sources.node.pnpm import read_yaml

_WORKSPACE = "pnpm-workspace.yaml"
_USUAL: Mapping[str, str | list[str]] = {
    "node-linker": "isolated",
    "shamefully-hoist": "false",
    "hoist": "true",
    "hoist-pattern": ["*"],
    "hoist-workspace-packages": "true",
    "public-hoist-pattern": [],
    "virtual-store-dir": "node_modules/.pnpm",
    "virtual-store-dir-max-length": "120",
    "enable-global-virtual-store": "false",
    "modules-dir": "node_modules",
}
"""Settings that change the layout of packages, with their default values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PnpmSettings:
    """The configuration of pnpm for a project.

    `workspace`: the parsed `pnpm-workspace.yaml`, every scalar as text, empty without one.
    `manifest`: the table `pnpm` of `package.json`, empty without one.
    """

    workspace: Mapping[str, Any] = field(repr=False)
    manifest: Mapping[str, Any] = field(repr=False)
    npmrc: Npmrc

    @classmethod
    def of(cls, folder: str, npmrc: Npmrc) -> PnpmSettings:
        """Read the settings of the project in `folder`.

        Raises UsageError for a malformed `pnpm-workspace.yaml` or `package.json`, SourceError if
        one of them cannot be read.
        """
        path = os.path.join(folder, _WORKSPACE)
        said = read_manifest(folder).get("pnpm")
        return cls(
            workspace=read_yaml(path)[1] if os.path.isfile(path) else {},
            manifest=said if isinstance(said, dict) else {},
            npmrc=npmrc,
        )

    def other_layouts(self) -> Iterator[str]:
        """Yield the settings that ask for another layout of packages than pnpm's default.

        Each is a phrase for a message: `shamefullyHoist of pnpm-workspace.yaml`.
        """
        for name, usual in _USUAL.items():
            words = name.split("-")
            camel = words[0] + "".join(map(str.capitalize, words[1:]))
            if camel in self.workspace:
                if self.workspace[camel] != usual:
                    yield f"{camel} of {_WORKSPACE}"
                continue
            values = self.npmrc.values
            said = values.get(name, values.get(f"{name}[]"))
            plain = "\n".join(usual) if isinstance(usual, list) else usual
            if said is not None and said != plain:
                yield f"{name} of .npmrc"

    def may_build(self) -> frozenset[str]:
        """Return the names of the packages whose install scripts pnpm would run.

        pnpm documentation, "onlyBuiltDependencies", and "allowBuilds", which replaces it. A version
        after an `@` in these settings is ignored.
        """
        found: list[object] = []
        for table in (self.workspace, self.manifest):
            listed, allowed = table.get("onlyBuiltDependencies"), table.get("allowBuilds")
            found += listed if isinstance(listed, list) else []
            if isinstance(allowed, dict):
                found += [name for name, said in allowed.items() if said in (True, "true")]
        return frozenset(
            re.sub(r"(?<=.)@.*", "", one, flags=re.DOTALL) for one in found if isinstance(one, str)
        )
