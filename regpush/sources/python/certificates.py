"""Read the TLS certificates for package indexes from the environment variables of pip and uv."""

from __future__ import annotations

from regpush.errors import printable
from regpush.events import InputWarned, Listener
from regpush.http.trust import ClientCertificate, Trust
from regpush.settings import IndexSettings
from regpush.sources.lock.certificates import Certificates


def certificates(settings: IndexSettings, notify: Listener) -> Certificates:
    """Return the certificates of `settings`; warn about hosts whose certificates are not verified.

    pip documentation, "HTTPS Certificates"; uv documentation, "TLS certificates". In uv's variable,
    a scheme may precede a host.
    """
    hosts = frozenset(one.rpartition("//")[2].rstrip("/") for one in settings.unverified_hosts)
    if hosts:
        message = (
            f"TLS certificates of {printable(', '.join(sorted(hosts)))} are not verified "
            "(UV_INSECURE_HOST, PIP_TRUSTED_HOST), so others may read the logins that are sent to "
            "them; give their certificate authority by SSL_CERT_FILE or --ca-file instead"
        )
        notify(InputWarned(message=message))
    # pip's and uv's variables name one file that contains both the certificate and its key.
    identities = tuple(
        ClientCertificate(cert_file=path, key_file=path) for path in settings.client_certificates
    )
    ca_files = (settings.ca_file,) if settings.ca_file else ()
    return Certificates(trust=Trust(ca_files=ca_files, identities=identities), unverified=hosts)
