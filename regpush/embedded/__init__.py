"""The embedded registry: distribution-spec v1.1 for development, blobs on disk.

`running` serves in a thread beside other work, `serve` until a signal arrives; both need the extra
`registry`. It has no logins and no TLS, so it is meant for the loopback interface.
"""

from regpush.embedded.server import Running, running, serve

__all__ = ["Running", "running", "serve"]
