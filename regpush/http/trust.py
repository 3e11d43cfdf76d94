"""Which certificates a TLS connection trusts, and which client certificate it presents.

The system's certificates, `--ca-file`, `--cert-file`, and the folders of certs.d with the file
names of containers-certs.d(5) and Docker.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from regpush.errors import AuthError, UsageError, printable
from regpush.options import RegistryOptions

_HTTPS_PORT = ":443"
_CLIENT_ALERTS = frozenset(
    {
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "TLSV1_ALERT_UNKNOWN_CA",
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    }
)
"""TLS alerts about a client's certificate (RFC 8446, section 6.2), in OpenSSL's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """A client certificate and its key, as files of PEM."""

    cert_file: str
    key_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """The certificates that a connection trusts besides the system's, and its client certificate.

    Further hosts that a registry names, such as its token server, are trusted by the same
    certificates. The client certificate is presented to the registry alone.
    """

    ca_files: tuple[str, ...] = ()
    identities: tuple[ClientCertificate, ...] = ()
    verify: bool = True

    @classmethod
    def of(cls, registry: str, options: RegistryOptions, folders: Sequence[str]) -> Trust:
        """Read the settings for `registry`: `options` first, then the first fitting folder.

        `registry` includes its port if one was written. Raises UsageError for a certificate without
        its key.
        """
        given, own = _given(options), _of_folders(folders, registry)
        return cls(
            ca_files=given.ca_files + own.ca_files,
            identities=given.identities or own.identities,
            verify=given.verify,
        )

    @property
    def means_tls(self) -> bool:
        """Whether any setting only makes sense over TLS."""
        return self != Trust()

    @property
    def anonymous(self) -> Trust:
        """Return these settings without the client certificate."""
        return replace(self, identities=())


class Contexts:
    """TLS contexts, each made when it is first needed. Thread-safe.

    `ca_file` and `ca_dir` replace the system's certificates.
    """

    def __init__(self, ca_file: str | None, ca_dir: str | None) -> None:
        self._system = (ca_file, ca_dir)
        self._lock = threading.Lock()
        self._made: dict[Trust, ssl.SSLContext] = {}

    def context(self, trust: Trust) -> ssl.SSLContext:
        """Return the TLS context for `trust`. Raises UsageError naming a malformed file.

        Loading a machine's certificates takes longer than many requests, so contexts are kept.
        """
        with self._lock:
            if trust not in self._made:
                self._made[trust] = _context(trust, *self._system)
            return self._made[trust]


def _given(options: RegistryOptions) -> Trust:
    if options.key_file and not options.cert_file:
        raise UsageError("--key-file needs --cert-file")
    identities: tuple[ClientCertificate, ...] = ()
    if options.cert_file:
        # One file may hold both.
        key = options.key_file or options.cert_file
        identities = (ClientCertificate(cert_file=options.cert_file, key_file=key),)
    return Trust(
        ca_files=(options.ca_file,) if options.ca_file else (),
        identities=identities,
        verify=not options.insecure_skip_tls_verify,
    )


def _of_folders(folders: Sequence[str], registry: str) -> Trust:
    """Read the settings in the first folder for `registry`.

    `*.crt` are certificates to trust, pairs of `*.cert` and `*.key` client certificates. Raises
    UsageError where one file of a pair is missing.
    """
    names = [registry]
    if registry.endswith(_HTTPS_PORT):
        names.append(registry.removesuffix(_HTTPS_PORT))
    elif ":" not in registry.rpartition("]")[2]:
        names.append(registry + _HTTPS_PORT)
    for path in (os.path.join(folder, name) for folder in folders for name in names):
        try:
            files = sorted(os.listdir(path))
        except (OSError, ValueError):
            continue  # absent, or not for us: as Docker's tools see it
        return Trust(
            ca_files=tuple(os.path.join(path, f) for f in files if f.endswith(".crt")),
            identities=_pairs(path, files),
        )
    return Trust()


def _pairs(path: str, files: list[str]) -> tuple[ClientCertificate, ...]:
    certificates = [f.removesuffix(".cert") for f in files if f.endswith(".cert")]
    keys = [f.removesuffix(".key") for f in files if f.endswith(".key")]
    for stem in sorted(set(certificates) ^ set(keys)):
        has, lacks = (".cert", ".key") if stem in certificates else (".key", ".cert")
        where = printable(os.path.join(path, stem))
        raise UsageError(f"{where}{has} needs {where}{lacks}, which does not exist")
    stems = (os.path.join(path, stem) for stem in certificates)
    return tuple(ClientCertificate(cert_file=f"{s}.cert", key_file=f"{s}.key") for s in stems)


def _context(trust: Trust, ca_file: str | None, ca_dir: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trust.verify:
        # As Go does, and so Docker: who names an authority below another means that one.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        _believe_system(context, ca_file, ca_dir)
        for path in trust.ca_files:
            _believe(context, path)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # Of several for the same kind of key OpenSSL takes the last one loaded: let it be the first.
    for identity in reversed(trust.identities):
        _be(context, identity)
    return context


def _believe_system(context: ssl.SSLContext, ca_file: str | None, ca_dir: str | None) -> None:
    """Load the system's certificates; `ca_file` or `ca_dir` replaces their file or folder.

    OpenSSL and Go read the variables of these two in the same way.
    """
    if ca_file is None and ca_dir is None:
        context.load_default_certs()
        return
    usual = ssl.get_default_verify_paths()
    if ca_file is not None:
        _believe(context, ca_file)
    elif os.path.isfile(usual.openssl_cafile):
        context.load_verify_locations(cafile=usual.openssl_cafile)
    folders = ca_dir or usual.openssl_capath
    if any(map(os.path.isdir, folders.split(os.pathsep))):
        context.load_verify_locations(capath=folders)


def _believe(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(path)
    except (OSError, ssl.SSLError, ValueError) as error:
        why = _why(error, "it holds no PEM certificates")
        raise UsageError(f"cannot use the CA file '{printable(path)}': {why}") from error


def _be(context: ssl.SSLContext, identity: ClientCertificate) -> None:
    def locked() -> str:
        raise UsageError(
            f"the key in '{printable(identity.key_file)}' is locked by a pass phrase; "
            "give one that is not"
        )

    try:
        context.load_cert_chain(identity.cert_file, identity.key_file, password=locked)
    except (OSError, ssl.SSLError, ValueError) as error:
        names = f"'{printable(identity.cert_file)}' with '{printable(identity.key_file)}'"
        why = _why(error, "they are no PEM certificate and the key to it")
        raise UsageError(f"cannot use the client certificate {names}: {why}") from error


def _why(error: Exception, otherwise: str) -> str:
    # Every error of ssl is an OSError, whose words are OpenSSL's.
    if isinstance(error, ssl.SSLError) or not isinstance(error, OSError):
        return otherwise
    return (error.strerror or str(error)).lower()


class ClientCertificateError(AuthError):
    """A registry refused the client certificate, or the lack of one.

    `alert`: the TLS alert that it sent, in words.
    """

    def __init__(self, alert: str) -> None:
        super().__init__(
            f"the registry wants a client certificate, or another ({alert}); "
            "--cert-file and --key-file name one"
        )
        self.alert = alert


def check_alert(error: OSError) -> None:
    """Raise ClientCertificateError where TLS failed because of our client certificate.

    Also for lack of one.
    """
    if isinstance(error, ssl.SSLError) and error.reason in _CLIENT_ALERTS:
        raise ClientCertificateError(error.reason.replace("_", " ").lower()) from error


def untrusted(code: int) -> str:
    """Return the advice for a certificate that failed verification, by OpenSSL's code.

    The codes are those of `x509_vfy.h`.
    """
    match code:
        case 9:
            return "it is not valid yet: is the clock of this machine right?"
        case 10:
            return "whoever runs the registry must renew it, unless this machine's clock is wrong"
        case 62 | 64:
            return "it is for another name: is the registry meant by another?"
        case _:
            return "--ca-file names the authority to trust as well"
