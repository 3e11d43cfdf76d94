"""A quick check that tells which files must be searched for secrets; in most apps only a few.

`sources.secrets` searches these files. The second process, which hashes files in advance
(`files.hash_ahead`), does not hash them, because the first process must read them for the search.
"""

from __future__ import annotations

KEY_BEGINS = b"-----BEGIN"
PUTTY_KEY = b"PuTTY-User-Key-File-"
AGE_KEY_BEGINS = b"AGE-SECRET-KEY-"

# The end of a file's path, and a pattern: the file is a secret if its content matches the pattern;
# None: always.
CREDENTIALS: tuple[tuple[bytes, bytes | None], ...] = (
    (b".aws/credentials", None),
    (b"application_default_credentials.json", None),
    (b".cargo/credentials", None),
    (b".cargo/credentials.toml", None),
    (b".dockercfg", rb'"auth"\s*:\s*"[^"]'),
    (b".htpasswd", None),
    (b".my.cnf", rb"(?m)^\s*password\s*=\s*[^\s$]"),
    (b".s3cfg", rb"(?m)^\s*secret_key\s*=\s*[^\s$]"),
    (b".vault-token", None),
    (b"terraform.tfstate", None),
    (b"terraform.tfstate.backup", None),
    (b".docker/config.json", rb'"(?:auth|identitytoken|registrytoken)"\s*:\s*"[^"]'),
    (b".config/gh/hosts.yml", None),
    (b".gem/credentials", None),
    (b".git-credentials", None),
    (b".kube/config", None),
    (b".netrc", None),
    (b"_netrc", None),
    (b".pgpass", None),
    (b".pypirc", rb"(?m)^\s*password\s*[=:]\s*[^\s$]"),
    (b".bundle/config", rb"(?m)^BUNDLE_[A-Z0-9_]*__[A-Z0-9_]*:\s*[\"']?[^\s\"'$]"),
    # A variable such as `${NPM_TOKEN}` is not a secret; npm replaces it when it reads the file.
    (b".npmrc", rb"_(?:authToken|auth|password)\s*=\s*[\"']?[^\s\"'$]"),
    (b".yarnrc.yml", rb"(?m)^\s*npmAuth(?:Token|Ident):\s*[\"']?[^\s\"'$]"),
    (b"auth.json", rb'"(?:http-basic|github-oauth|gitlab-token|bearer)"\s*:\s*\{\s*"'),
)
CREDENTIAL_NAMES = frozenset(ending.rpartition(b"/")[2] for ending, _ in CREDENTIALS)


def is_suspect(path: bytes, data: bytes | bytearray, start: int, end: int) -> bool:
    """Whether the file at `path` with the first bytes `data[start:end]` must be searched.

    False for nearly all files, in which a search would find nothing. This check is quick and copies
    no data.
    """
    # Searching backwards takes a third of the time of searching forwards: 0.1 ms for 1 MiB of text
    # and each of the two markers (CPython 3.11). With a space after "-----BEGIN" it takes four
    # times as long.
    name = path[path.rfind(b"/") + 1 :]
    return (
        data.rfind(KEY_BEGINS, start, end) >= 0
        or data.rfind(AGE_KEY_BEGINS, start, end) >= 0
        or b"env" in name
        or name in CREDENTIAL_NAMES
        or data.startswith(PUTTY_KEY, start, end)
    )
