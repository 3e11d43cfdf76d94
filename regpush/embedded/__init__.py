"""A registry for development, behind `regpush serve` and `regpush demo`.

It speaks the OCI distribution-spec v1.1, without referrers and without resumed uploads.

`storage` knows the disk and no HTTP, `app` the routes and no disk, `server` runs the two.
It has no authentication and no TLS: it is for the loopback interface.
"""
