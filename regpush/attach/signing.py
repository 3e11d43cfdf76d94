"""Signatures by cosign, which the user installs: regpush holds no keys and asks for none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread

from regpush.concurrency import Cancellation
from regpush.digest import Digest
from regpush.errors import RefusedError, UsageError, printable
from regpush.events import Listener, Note
from regpush.options import RegistryOptions
from regpush.reference import Reference
from regpush.registry.auth.keys import docker_key
from regpush.registry.auth.record import Credentials
from regpush.registry.client import Client

_LOOK_S = 0.05
_GRACE_S = 5.0
_WORDS_LIMIT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """cosign at `program`, which signs with `key`, or by an identity where that is None."""

    program: str
    key: str | None

    @classmethod
    def find(cls, key: str | None) -> Signer:
        """The cosign on the PATH. Raises UsageError where there is none."""
        program = shutil.which("cosign")
        if program is None:
            raise UsageError("--sign needs the program cosign, which is not on the PATH")
        return cls(program=program, key=key)

    def sign(
        self,
        reference: Reference,
        digest: Digest,
        *,
        options: RegistryOptions,
        client: Client,
        notify: Listener,
        cancel: Cancellation,
    ) -> None:
        """Sign the manifest `digest` of the repository of `reference`, where it stands.

        `options`: how that registry is reached. What cosign says becomes notes. Raises
        RefusedError where it fails, CancelledError when it has ended.
        """
        named = f"{reference.name}@{digest}"
        key = [] if self.key is None else ["--key", self.key]
        command = [self.program, "sign", "--yes", *key, *_flags(options), named]
        with _login(client.credentials(reference), reference.registry) as login:
            code, last = _run([*login, *command], notify, cancel)
        if code:
            raise RefusedError(f"cosign did not sign {named} (exit {code}): {last}")


def _flags(options: RegistryOptions) -> Iterator[str]:
    if options.plain_http:
        yield "--allow-http-registry"
    if options.insecure_skip_tls_verify:
        yield "--allow-insecure-registry"
    for flag, file in (
        ("--registry-cacert", options.ca_file),
        ("--registry-client-cert", options.cert_file),
        ("--registry-client-key", options.key_file),
    ):
        if file:
            yield from (flag, file)


@contextmanager
def _login(credentials: Credentials | None, registry: str) -> Iterator[list[str]]:
    """How to start a program that is to log in to `registry` as we do.

    It reads Docker's file, and knows neither our flags nor REGPUSH_AUTH. A password is written
    to a file for it, as others could read it in a command, and that file is deleted again.
    """
    if credentials is None:
        yield []
        return
    entry = {
        "username": credentials.username,
        "password": credentials.password,
        "identitytoken": credentials.identity_token,
        "registrytoken": credentials.registry_token,
    }
    said = {name: value for name, value in entry.items() if value}
    with tempfile.TemporaryDirectory(prefix="regpush-") as folder:  # for its owner alone
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump({"auths": {docker_key(registry): said}}, file)
        yield ["env", f"DOCKER_CONFIG={folder}"]


def _run(command: list[str], notify: Listener, cancel: Cancellation) -> tuple[int, str]:
    """Run `command`; its exit code and the last line it said, on stdout or stderr."""
    last: deque[str] = deque(["it says nothing"], maxlen=1)

    def tell(lines: Iterable[str]) -> None:
        for line in lines:
            if said := printable(line.strip())[:_WORDS_LIMIT]:
                last.append(said)
                notify(Note(message=f"cosign: {said}"))

    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        # Whatever cosign started may hold its stdout open when it has ended itself.
        teller = Thread(
            target=tell, args=(process.stdout or (),), name="regpush-cosign", daemon=True
        )
        teller.start()
        try:
            while process.poll() is None:
                cancel.wait(_LOOK_S)
        except BaseException:
            process.terminate()
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
        finally:
            teller.join(_GRACE_S)
    return process.returncode, last[0]
