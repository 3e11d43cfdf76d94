"""SLSA provenance: a statement of what an image was made from. Pure.

in-toto Attestation Framework, Statement v1; SLSA specification 1.0, "Provenance". Equal pushes make
equal statements: a statement names no CI run, and holds no time but the image's creation time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any
from urllib.parse import quote

from regpush import __version__
from regpush.closure import Closure, Identity, Role
from regpush.digest import canonical_json
from regpush.errors import printable
from regpush.image.image import Ancestor, Image
from regpush.layering.plan import base_name
from regpush.options import PushOptions
from regpush.registry.referrers import Attachment
from regpush.settings import Checkout

MEDIA_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://regpush.dev/push/v1"
"""SLSA `buildType`. Statements of this type list in `externalParameters` the kind and name of the
target, the platform, and the push options that differ from their defaults, named as in
`options.py`."""

LOCAL = "https://regpush.dev/builder/unknown"
"""SLSA `builder.id` of a push that runs outside any known CI pipeline."""


def provenance(
    closure: Closure, image: Image, name: str, options: PushOptions, checkout: Checkout | None
) -> Attachment:
    """Return the provenance statement that `image` in the repository `name` was made of `closure`.

    `checkout`: the CI pipeline and the commit that it has checked out; None outside a pipeline.
    """
    digest = image.descriptor.digest
    stored = closure[closure.roots[0]].in_store
    builder = checkout.builder if checkout else ""
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {digest.algorithm: digest.hex}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "target": {
                        "kind": "store" if stored else "directory",
                        "name": printable(base_name(closure[closure.roots[0]])),
                    },
                    "platform": str(image.platform),
                    "options": _options(options),
                },
                # Facts that the source states about itself, such as the Guix channels used.
                "internalParameters": dict(closure.provenance),
                "resolvedDependencies": [
                    *_materials(closure),
                    *_bases(image.ancestor),
                    *_sources(checkout),
                ],
            },
            "runDetails": {
                "builder": {"id": builder or LOCAL, "version": {"regpush": __version__}},
            },
        },
    }
    return Attachment(
        media_type=MEDIA_TYPE,
        data=canonical_json(statement),
        title="provenance.json",
        annotations=(("in-toto.io/predicate-type", PREDICATE),),
    )


def _options(options: PushOptions) -> dict[str, Any]:
    """Return the options for source, layers and image that differ from their defaults."""
    records = {"source": options.source, "layers": options.layers, "image": options.image}
    changed = {name: _changed(record) for name, record in records.items()}
    return {name: values for name, values in changed.items() if values}


def _changed(record: Any) -> dict[str, Any]:
    """Return the fields of an options dataclass that differ from their defaults, as JSON values."""
    default = type(record)()
    values = {one.name: getattr(record, one.name) for one in fields(record)}
    return {
        name: _plain(value) for name, value in values.items() if value != getattr(default, name)
    }


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        # Fields with `repr=False` may hold secrets, such as the URL of a package index.
        shown = (one for one in fields(value) if one.repr)
        return {one.name: _plain(getattr(value, one.name)) for one in shown}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)


def _quoted(text: str) -> str:
    # A lock file may hold a lone surrogate, which UTF-8 cannot encode.
    return quote(text, errors="backslashreplace")


def _materials(closure: Closure) -> Iterator[Mapping[str, Any]]:
    """Yield the SLSA resource descriptor of each input of the image.

    Inputs are lock files, the packages that they lock, the targets of the push and the app's code.
    """
    for name, digest in closure.locks:
        yield {"name": printable(name), "digest": {digest.algorithm: digest.hex}}
    for item in closure.items:
        if package := item.locked:
            version = f"@{_quoted(package.version)}" if package.version else ""
            yield {
                "uri": f"pkg:{package.kind}/{_quoted(package.name)}{version}",
                "digest": dict(package.hashes),
            }
            continue
        asked = item.path in closure.roots or item.role.is_code
        if asked and item.role is not Role.GENERATED and item.identity:
            yield {"name": printable(item.path), "digest": _digest_set(item.identity)}


def _digest_set(identity: Identity) -> Mapping[str, str]:
    """Return the digest of an item as an in-toto DigestSet: algorithm name to hex digits.

    `narSha256` for store items. in-toto names no algorithm for a digest of a directory, so that
    digest is called `regpushTreeSha256`.
    """
    if identity.nar_hash:
        return {"narSha256": identity.nar_hash.hex}
    return {"regpushTreeSha256": identity.digest.hex}


def _bases(base: Ancestor | None) -> Iterator[Mapping[str, Any]]:
    if base:
        digest = {base.digest.algorithm: base.digest.hex}
        yield {"name": base.name, "uri": f"docker://{base.name}", "digest": digest}


def _sources(checkout: Checkout | None) -> Iterator[Mapping[str, Any]]:
    if checkout and checkout.commit:
        at = f"@{checkout.ref}" if checkout.ref else ""
        yield {
            "uri": f"git+{checkout.repository}{at}",
            "digest": {"gitCommit": checkout.commit},
        }
