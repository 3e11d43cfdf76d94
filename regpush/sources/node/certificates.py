"""Read the TLS certificates for package registries from `.npmrc` and the environment.

npm documentation, "config": `ca`, `cafile`, `cert`, `key`, `strict-ssl`; npm-registry-fetch,
`lib/auth.js`: `certfile` and `keyfile` of a registry; pnpm documentation, "Settings (.npmrc)": the
other keys of a registry.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from regpush.errors import printable
from regpush.http.trust import ClientCertificate, Trust
from regpush.sources.lock.certificates import Certificates
from regpush.sources.lock.logins import without_login
from regpush.sources.node.npmrc import Npmrc

_OF_REGISTRY = ("cafile", "ca", "certfile", "keyfile", "cert", "key")
_PARTNER = {"certfile": "keyfile", "keyfile": "certfile", "cert": "key", "key": "cert"}
"""For the `.npmrc` key of a certificate, the one of its private key, and the reverse."""


def certificates(npmrc: Npmrc, folder: str, scratch: Callable[[str], str]) -> Certificates:
    """Return the certificates that `npmrc` names or contains.

    Relative paths are relative to `folder`, the project's. `scratch`: returns a new path; a
    certificate or key whose text is a value in `npmrc` is written there, readable by this user
    only. Raises UsageError where a key begins with a malformed registry address.
    """
    read = _PemReader(npmrc, folder, scratch)
    # Node documentation, "NODE_EXTRA_CA_CERTS": a file that is missing is ignored.
    extra = npmrc.variables.get("NODE_EXTRA_CA_CERTS", "")
    more = (extra,) if os.path.isfile(extra) else ()
    return Certificates(
        trust=Trust(
            ca_files=(*read.authorities(""), *more),
            # For all registries npm knows `cert` and `key` only, not `certfile` and `keyfile`.
            identities=read.identities(read.written("cert"), read.written("key")),
            verify=npmrc.values.get("strict-ssl") != "false",
        ),
        below=[
            (without_login(f"https:{place}")[0], read.trust(f"{place}:"))
            for place in npmrc.places(_OF_REGISTRY)
        ],
    )


class _PemReader:
    """Reads the certificate settings of `.npmrc`, and writes PEM text in them into files.

    TLS libraries load certificates from files only. `scratch` returns a path for such a file. The
    argument `at` is the beginning of keys: `//HOST/PATH/:` for one registry, empty for all.
    """

    def __init__(self, npmrc: Npmrc, folder: str, scratch: Callable[[str], str]) -> None:
        self._npmrc = npmrc
        self._folder = folder
        self._scratch = scratch

    def trust(self, at: str) -> Trust:
        """Return the certificate authorities and the client certificate for a registry."""
        return Trust(
            ca_files=self.authorities(at),
            identities=self.identities(
                self._file(f"{at}certfile") or self.written(f"{at}cert"),
                self._file(f"{at}keyfile") or self.written(f"{at}key"),
            ),
        )

    def authorities(self, at: str) -> tuple[str, ...]:
        """Return the paths of the files with certificate authorities for a registry."""
        files = (self._file(f"{at}cafile"), self.written(f"{at}ca") or self.written(f"{at}ca[]"))
        return tuple(filter(None, files))

    def identities(self, cert_file: str, key_file: str) -> tuple[ClientCertificate, ...]:
        """Return the client certificate in a certificate file and a key file.

        Empty where one of the two paths is empty: npm does not use it then either.
        """
        if not cert_file or not key_file:
            return ()
        return (ClientCertificate(cert_file=cert_file, key_file=key_file),)

    def written(self, key: str) -> str:
        """Write the PEM that is the value of `key` into a file. Returns its path, empty for none.

        npm documentation, "ca": a newline of the PEM is written as a backslash and an n.
        """
        text = self._npmrc.value(key).replace("\\n", "\n")
        if not text:
            return ""
        path = self._scratch("npm-certificate")
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(made, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        return path

    def _file(self, key: str) -> str:
        path = self._npmrc.value(key)
        return os.path.join(self._folder, os.path.expanduser(path)) if path else ""


def unheeded(npmrc: Npmrc) -> Iterator[str]:
    """Yield a warning for each key in `npmrc`, of a login or client certificate, without effect."""
    for key in ("_auth", "_authToken", "_authtoken", "_password", "certfile", "keyfile"):
        if npmrc.value(key):
            yield (
                f"{key} in .npmrc is not used, because it names no registry (npm 9 and later do "
                f"not use it either): write //HOST/:{key}"
            )
    for key in npmrc.values:
        if key.rpartition(":")[2] == "tokenHelper" and npmrc.value(key):
            yield (
                f"{printable(key)} in .npmrc names a program, which regpush does not run: write "
                "//HOST/:_authToken=${TOKEN} instead, and set TOKEN to the token that it prints"
            )
    for at in ("", *(f"{place}:" for place in npmrc.places(_OF_REGISTRY))):
        said = [key for key in _PARTNER if npmrc.value(f"{at}{key}")]
        if not at:
            said = [key for key in said if key in ("cert", "key")]
        if len({key in ("certfile", "cert") for key in said}) == 1:
            yield (
                f"{printable(at + said[0])} in .npmrc is not used, because "
                f"{printable(at + _PARTNER[said[0]])} is missing: set both"
            )
