"""The embedded registry: distribution-spec v1.1 for development, blobs on disk.

`running` has it beside other work, `serve` until a signal comes; both need the extra
`registry`. Without logins and TLS, it is meant for the loopback interface.
"""

from regpush.embedded.server import Running, running, serve

__all__ = ["Running", "running", "serve"]
