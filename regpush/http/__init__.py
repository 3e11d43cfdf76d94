"""HTTP for registries and fetched artifacts: connections, TLS, proxies, retries, redaction."""
