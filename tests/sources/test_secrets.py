"""Secrets in a directory. Every key here was made for this test and opens nothing."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from regpush.closure import Closure
from regpush.concurrency import Cancellation
from regpush.errors import UsageError
from regpush.events import InputWarned, ignore
from regpush.options import SourceOptions
from regpush.sources.identity import identify
from regpush.sources.stats import Stats
from regpush.sources.targets import resolve
from regpush.sources.tools import Workshop
from tests.sources.conftest import Write, take

_TEXT = base64.b64encode(hashlib.shake_256(b"no key at all").digest(300)).decode()
_LINES = "\n".join(_TEXT[start : start + 64] for start in range(0, len(_TEXT), 64))


def pem(kind: str = "", header: str = "") -> str:
    # Assembled here, so that this file itself looks like no key.
    label = " ".join(filter(None, [kind, "PRIVATE", "KEY"]))
    return f"-----BEGIN {label}-----\n{header}{_LINES}\n-----END {label}-----\n"


CERTIFICATE = f"-----BEGIN CERTIFICATE-----\n{_LINES * 40}\n-----END CERTIFICATE-----\n"
SECRETS = {
    ".env": "",
    ".env.production": "PASSWORD=x",
    "config/.env.local": "",
    "tls/server.pem": CERTIFICATE + pem(),
    "id_plain": pem("OPENSSH"),
    "rsa": pem("RSA", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n"),
    "windows.txt": pem("EC").replace("\n", "\r\n"),
    "indented.yaml": "key: |\n  " + pem().replace("\n", "\n  "),
    "account.json": json.dumps({"private_key": pem()}),
    "settings.py": f"KEY = {pem()!r}",
    "key.ppk": "PuTTY-User-Key-File-3: ssh-ed25519\n",
    "age.txt": "# created\nAGE-SECRET-KEY-1" + "Q" * 58,
    ".aws/credentials": "[default]",
    "home/.netrc": "machine x",
    ".git-credentials": "",
    ".npmrc": "//registry.example.com/:_authToken=0123",
    ".pypirc": "[x]\nusername = a\npassword = b\n",
    ".docker/config.json": '{"auths": {"h": {"auth": "eA=="}}}',
    "gcloud/application_default_credentials.json": "{}",
    ".kube/config": "",
    "auth.json": '{"http-basic": {"h": {}}}'.replace("{}", '{"username": "x"}'),
    ".yarnrc.yml": "npmAuthToken: abc",
    ".bundle/config": "BUNDLE_GEMS__EXAMPLE__COM: user:word",
    ".dockercfg": '{"registry.example.com": {"auth": "eA=="}}',
    ".envrc": "use flake\nexport API_TOKEN=0123\n",
    "prod.env": "DB_PASSWORD='x'\n",
    "deploy/env.prod": "SECRET_KEY = abc\n",
    ".vault-token": "hvs.x",
    "www/.htpasswd": "me:$2y$",
    "infra/terraform.tfstate": "{}",
    ".s3cfg": "[default]\nsecret_key = abc\n",
    ".my.cnf": "[client]\npassword=abc\n",
    "signing.p12": "",
    "app.jks": "",
    "late.pem": CERTIFICATE * 25 + pem(),
}
HARMLESS = {
    ".env.example": "PASSWORD=",
    ".env.production.sample": "",
    ".env.template": "",
    ".env.dist": "",
    ".envrc": "",
    "x.env": "",
    "certificate.pem": CERTIFICATE,
    "public.pem": pem().replace("PRIVATE", "PUBLIC"),
    "parser.py": 'if line == "-----BEGIN ' + 'PRIVATE KEY-----":\n    pass\n',
    ".npmrc": "//registry.example.com/:_authToken=${NPM_TOKEN}\nsave-exact=true\n",
    ".pypirc": "[distutils]\nindex-servers = x\n",
    ".docker/config.json": '{"credsStore": "pass", "auths": {"h": {}}}',
    "credentials": "of another kind",
    "src/config": "",
    "auth.json": '{"users": []}',
    ".yarnrc.yml": "npmAuthToken: ${TOKEN}\nnodeLinker: pnp",
    ".bundle/config": "BUNDLE_PATH: vendor/bundle\nBUNDLE_GEMS__EXAMPLE__COM: $TOKEN\n",
    "empty": "",
    ".dockercfg": '{"registry.example.com": {}}',
    "test.env": "PORT=8080\nAPI_TOKEN=${API_TOKEN}\nDB_PASSWORD=\n",
    "env.js": "const TOKEN_LIMIT = 5\n",
    ".my.cnf": "[client]\nuser=me\n",
    ".s3cfg": "secret_key = $SECRET\n",
}


@pytest.mark.parametrize("path", SECRETS)
def test_a_secret_is_refused_and_named(write: Write, path: str) -> None:
    root = write({"main.py": "", path: SECRETS[path]})
    with pytest.raises(UsageError) as caught:
        take(root)
    message = str(caught.value)
    assert f"{root}/{path} looks like a secret" in message
    assert f"--allow-secret '{path}'" in message
    assert ".regpushignore" in message
    assert "\n" not in message
    assert _TEXT[:20] not in message


@pytest.mark.parametrize("path", SECRETS)
def test_a_secret_may_be_allowed_or_left_out(write: Write, path: str) -> None:
    root = write({"main.py": "", path: SECRETS[path]})
    assert f"app/{path}".encode() in [
        entry.path
        for item in take(root, allow_secrets=(path,)).closure.items
        for entry in item.entries()
    ]
    write({".regpushignore": f"/{path}\n"})
    take(root)


@pytest.mark.parametrize("path", SECRETS)
def test_names_are_refused_before_anything_is_read_contents_when_they_are(
    write: Write, path: str
) -> None:
    root = write({"main.py": "", path: SECRETS[path]})
    stop = Cancellation()

    def listed() -> Closure:
        return resolve([str(root)], SourceOptions(), (), workshop=Workshop(ignore, stop))

    if path in BY_NAME:
        with pytest.raises(UsageError, match="looks like a secret"):
            listed()
        return
    with pytest.raises(UsageError, match="looks like a secret"):
        identify(listed(), Stats(None), stop, now_ns=0)
    ((item, entry),) = (
        (item, entry)
        for item in listed().items
        for entry in item.entries()
        if entry.path == f"app/{path}".encode()
    )
    assert item.look
    content = (root / path).read_bytes()
    around = bytearray(b"x" + content + b"y")
    with pytest.raises(UsageError, match="looks like a secret"):
        item.look(entry, around, 1, 1 + len(content))


@pytest.mark.parametrize("path", HARMLESS)
def test_what_is_no_secret_passes(write: Write, path: str) -> None:
    take(write({path: HARMLESS[path]}))


@pytest.mark.parametrize("folder", ["node_modules/x", "vendor/y", ".venv/lib"])
def test_packages_may_hold_what_looks_like_one(write: Write, folder: str) -> None:
    take(write({f"{folder}/{path}": content for path, content in SECRETS.items()}))


BY_NAME = {
    ".aws/credentials", ".env", ".env.production", ".git-credentials", ".kube/config",
    "config/.env.local", "gcloud/application_default_credentials.json", "home/.netrc",
    ".vault-token", "app.jks", "infra/terraform.tfstate", "signing.p12", "www/.htpasswd",
}  # fmt: skip


def test_several_are_counted_and_the_rest_allowed_by_pattern(write: Write) -> None:
    root = write(SECRETS)
    with pytest.raises(UsageError, match=r"\.aws/credentials .*: credentials \(and 12 more\)"):
        take(root)
    with pytest.raises(
        UsageError,
        match=rf"\.bundle/config .*: credentials \(and {len(SECRETS) - len(BY_NAME) - 1} more\)",
    ):
        take(root, allow_secrets=tuple(BY_NAME))
    take(root, allow_secrets=("*",))
    assert [
        event.message
        for event in take(root, allow_secrets=("*", "!")).events
        if isinstance(event, InputWarned)
    ] == ["--allow-secret: '!' matches nothing: it names nothing"]
