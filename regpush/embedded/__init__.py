"""A registry for development, which implements distribution-spec v1.1 and keeps blobs on disk.

`running` serves in a background thread; `serve` blocks until a signal arrives. Both need the extra
`registry`. The registry has no logins and no TLS, so it is meant for the loopback interface.
"""

from regpush.embedded.server import Running, running, serve

__all__ = ["Running", "running", "serve"]
