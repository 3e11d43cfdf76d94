"""HTTP requests: connections, TLS, proxies, retries, redaction.

Used for registries and for package indexes.
"""
