"""The embedded registry: distribution-spec v1.1 for development, blobs on disk.

`serving` runs it in a thread, `run` in the foreground; both need the extra `registry`.
"""

from regpush.embedded.server import run, serving

__all__ = ["run", "serving"]
