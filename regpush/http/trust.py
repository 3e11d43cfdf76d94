"""The certificates that a TLS connection trusts, and the client certificate that it presents.

They come from the system, `--ca-file`, `--cert-file`, and the folders of certs.d with the file
names of containers-certs.d(5) and Docker.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterable, Sequence
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

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
"""TLS alerts about a client's certificate (RFC 8446, section 6.2), by their names in OpenSSL."""


class ClientCertificate(Struct, frozen=True, kw_only=True):
    """The PEM files of a client certificate and its key."""

    cert_file: str
    key_file: str


class Trust(Struct, frozen=True, kw_only=True):
    """The certificates that a connection trusts besides the system's, and its client certificates.

    `ca_files`: PEM files of authorities. `identities`: client certificates. `verify`: False trusts
    every certificate. Further hosts that a registry names, such as its token server, are trusted by
    the same certificates. Client certificates are presented to the registry alone.
    """

    ca_files: tuple[str, ...] = ()
    identities: tuple[ClientCertificate, ...] = ()
    verify: bool = True

    @classmethod
    def of(cls, registry: str, options: RegistryOptions, folders: Sequence[str]) -> Trust:
        """Read the settings for `registry` from `options` and from the first folder of its name.

        `registry` includes its port if one was written; a folder of that name is looked for in each
        of `folders`. A client certificate in `options` replaces those of the folder. Raises
        UsageError for a certificate without its key.
        """
        given, own = _given(options), _of_folders(folders, registry)
        return cls(
            ca_files=given.ca_files + own.ca_files,
            identities=given.identities or own.identities,
            verify=given.verify,
        )

    @property
    def means_tls(self) -> bool:
        """Whether any certificate setting is given, which shows that the registry speaks TLS."""
        return self != Trust()

    @property
    def anonymous(self) -> Trust:
        """Return these settings without the client certificate."""
        return replace(self, identities=())


_PROTOCOLS = ["http/1.1"]


class _Context(ssl.SSLContext):
    """A TLS context whose protocols (ALPN) are set once, when it is made.

    httpcore sets them for each connection, while other threads make connections from the context
    without Python's lock; OpenSSL would free the list that they copy.
    """

    @classmethod
    def new(cls) -> _Context:
        """Make a context for clients that speak HTTP/1.1."""
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        ssl.SSLContext.set_alpn_protocols(context, _PROTOCOLS)
        return context

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Check that `alpn_protocols` are those that were set."""
        if list(alpn_protocols) != _PROTOCOLS:
            raise ValueError(f"this program speaks {_PROTOCOLS}, not {alpn_protocols}")


class Contexts:
    """Makes TLS contexts when they are first needed, and keeps them. Thread-safe.

    `ca_file` and `ca_dir` replace the system's certificates.
    """

    early: ClassVar[Contexts | None] = None
    """Contexts of connections that were begun before a `Client` was made; `take` returns them."""

    @classmethod
    def take(cls, ca_file: str | None, ca_dir: str | None) -> Contexts:
        """Return `early` if it was made for the same certificates, else new contexts."""
        early, cls.early = cls.early, None
        return early if early and early.system == (ca_file, ca_dir) else cls(ca_file, ca_dir)

    def __init__(self, ca_file: str | None, ca_dir: str | None) -> None:
        self.system = (ca_file, ca_dir)
        self._lock = threading.Lock()
        self._made: dict[Trust, ssl.SSLContext] = {}

    def context(self, trust: Trust) -> ssl.SSLContext:
        """Return the TLS context for `trust`. Raises UsageError naming a malformed file.

        Contexts are kept, because loading a machine's certificates takes longer than many requests.
        """
        with self._lock:
            if trust not in self._made:
                self._made[trust] = _context(trust, *self.system)
            return self._made[trust]


def secured(
    sock: socket.socket, context: ssl.SSLContext, hostname: str, timeout_s: float
) -> ssl.SSLSocket:
    """Do the TLS handshake on `sock`, which is connected.

    The result does not block. `timeout_s`: seconds for each step. Raises OSError, and ValueError
    for a malformed `hostname`.
    """
    sock.settimeout(timeout_s)
    secure = context.wrap_socket(sock, server_hostname=hostname)
    secure.setblocking(False)
    return secure


def _given(options: RegistryOptions) -> Trust:
    if options.key_file and not options.cert_file:
        raise UsageError("--key-file needs --cert-file")
    identities: tuple[ClientCertificate, ...] = ()
    if options.cert_file:
        # One file may hold the certificate and its key.
        key = options.key_file or options.cert_file
        identities = (ClientCertificate(cert_file=options.cert_file, key_file=key),)
    return Trust(
        ca_files=(options.ca_file,) if options.ca_file else (),
        identities=identities,
        verify=not options.insecure_skip_tls_verify,
    )


def _of_folders(folders: Sequence[str], registry: str) -> Trust:
    """Read the settings in the first of `folders` that has a folder named after `registry`.

    In it, `*.crt` are certificates to trust, pairs of `*.cert` and `*.key` client certificates.
    Raises UsageError where one file of a pair is missing.
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
            continue  # absent or unreadable: Docker's tools ignore it too
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
    context = _Context.new()
    if trust.verify:
        # Go, and so Docker, trusts an intermediate authority without the root above it.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        _load_system_authorities(context, ca_file, ca_dir)
        for path in trust.ca_files:
            _load_authorities(context, path)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # Of several for one kind of key, OpenSSL uses the last one loaded; ours is the first named.
    for identity in reversed(trust.identities):
        _load_identity(context, identity)
    return context


def _load_system_authorities(
    context: ssl.SSLContext, ca_file: str | None, ca_dir: str | None
) -> None:
    """Load the system's certificates; `ca_file` or `ca_dir` replaces their file or folder.

    The values come from SSL_CERT_FILE and SSL_CERT_DIR, which OpenSSL and Go read in this way.
    """
    if ca_file is None and ca_dir is None:
        context.load_default_certs()
        return
    usual = ssl.get_default_verify_paths()
    if ca_file is not None:
        _load_authorities(context, ca_file)
    elif os.path.isfile(usual.openssl_cafile):
        context.load_verify_locations(cafile=usual.openssl_cafile)
    folders = ca_dir or usual.openssl_capath
    if any(map(os.path.isdir, folders.split(os.pathsep))):
        context.load_verify_locations(capath=folders)


def _load_authorities(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(path)
    except (OSError, ssl.SSLError, ValueError) as error:
        why = _why(error, "it holds no PEM certificates")
        raise UsageError(f"cannot use the CA file '{printable(path)}': {why}") from error


def _load_identity(context: ssl.SSLContext, identity: ClientCertificate) -> None:
    def locked() -> str:
        raise UsageError(
            f"the key in '{printable(identity.key_file)}' is locked by a pass phrase; "
            "give a key without one"
        )

    try:
        context.load_cert_chain(identity.cert_file, identity.key_file, password=locked)
    except (OSError, ssl.SSLError, ValueError) as error:
        names = f"'{printable(identity.cert_file)}' with '{printable(identity.key_file)}'"
        why = _why(error, "they are not a PEM certificate and its key")
        raise UsageError(f"cannot use the client certificate {names}: {why}") from error


def _why(error: Exception, otherwise: str) -> str:
    # Every error of ssl is an OSError, whose words are OpenSSL's.
    if isinstance(error, ssl.SSLError) or not isinstance(error, OSError):
        return otherwise
    return (error.strerror or str(error)).lower()


class ClientCertificateError(AuthError):
    """A server wants a client certificate, or rejects ours.

    `alert`: the TLS alert that it sent, in words.
    """

    def __init__(self, alert: str) -> None:
        super().__init__(
            f"the registry wants a client certificate, or rejects ours ({alert}); "
            "give one with --cert-file and --key-file"
        )
        self.alert = alert


def check_alert(error: OSError) -> None:
    """Raise ClientCertificateError where the server ended TLS for want of a client certificate.

    Also where it rejects ours.
    """
    if isinstance(error, ssl.SSLError) and error.reason in _CLIENT_ALERTS:
        raise ClientCertificateError(error.reason.replace("_", " ").lower()) from error


def untrusted(code: int) -> str:
    """Return the advice for a certificate that failed verification with OpenSSL's error `code`.

    The codes are those of `x509_vfy.h`.
    """
    match code:
        case 9:
            return "it is not valid yet: is the clock of this machine right?"
        case 10:
            return "the registry's operator must renew it, unless this machine's clock is wrong"
        case 62 | 64:
            return "it is for another host name: use the name that the certificate states"
        case _:
            return "give the authority that signed it with --ca-file"
