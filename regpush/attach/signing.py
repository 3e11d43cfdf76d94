"""Sign images with the program cosign, which the user installs. regpush itself reads no keys."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Thread

from msgspec import Struct

from regpush.concurrency import Cancellation
from regpush.digest import Digest
from regpush.errors import RefusedError, TransientError, UsageError, printable
from regpush.events import Listener, Note
from regpush.events import ignore as quiet
from regpush.options import AttachOptions, RegistryOptions
from regpush.reference import Reference
from regpush.registry.auth.keys import docker_key
from regpush.registry.auth.record import Credentials
from regpush.registry.client import Client
from regpush.settings import PipelineIdentity

_LOOK_S = 0.05
_GRACE_S = 5.0
_WORDS_LIMIT = 300
_LINES = 20
_SHARED = (
    "--annotations",
    "--rekor-url",
    "--registry-referrers-mode",
    "--registry-server-name",
    "--trusted-root",
)
_SWITCHES = ("--k8s-keychain", "--new-bundle-format")
_NETWORK = re.compile(
    r"connection re(?:fused|set)|no such host|time-?d?[ -]?out|server misbehaving|broken pipe"
    r"|(?:network is|host is) unreachable|no route to host|deadline exceeded|\bEOF\b"
    r"|too many requests|(?:status|code|unexpected)[^0-9]{0,12}(?:429|50[0234])\b",
    re.IGNORECASE,
)
"""Output of cosign, a Go program, after a failure of the network or of a server."""


class SigningPlace(Struct, frozen=True, kw_only=True):
    """The repository of `reference`, whose manifests are signed, and the client of its registry.

    `notify` receives cosign's output as notes.
    """

    reference: Reference
    options: RegistryOptions
    client: Client
    notify: Listener
    cancel: Cancellation

    def named(self, digest: Digest) -> str:
        """Return `registry/repository@digest`, the form of a reference that cosign reads."""
        return f"{self.reference.name}@{digest}"


class Signer(Struct, frozen=True, kw_only=True):
    """Signs with the program cosign at the path `program`.

    `key`: a key in a form that `cosign sign --key` reads; None signs keyless, with an OIDC
    identity. `identity` and `issuer`: an existing keyless signature counts only if its certificate
    names both; empty if unknown. `words`: further arguments for `cosign sign`.
    """

    program: str
    key: str | None
    identity: str = ""
    issuer: str = ""
    words: tuple[str, ...] = ()

    @classmethod
    def find(cls, options: AttachOptions, pipeline: PipelineIdentity | None = None) -> Signer:
        """Find cosign on the PATH. Raises UsageError if it is not installed.

        `pipeline`: the OIDC identity of the CI pipeline, used unless `options` name an identity or
        an issuer.
        """
        program = shutil.which("cosign")
        if program is None:
            raise UsageError(
                "--sign needs the program cosign, which is not on the PATH; install cosign"
            )
        identity, issuer = options.sign_identity or "", options.sign_issuer or ""
        if pipeline and not (identity or issuer):
            identity, issuer = pipeline.subject, pipeline.issuer
        return cls(
            program=program,
            key=options.sign_key,
            identity=identity,
            issuer=issuer,
            words=options.sign_options,
        )

    def is_signed(self, place: SigningPlace, digest: Digest) -> bool:
        """Return whether the manifest `digest` has a signature that `cosign verify` accepts.

        The signature must be made with the same key, or by the same OIDC identity, and with the
        same annotations. If neither key nor identity is known, sends a note and returns False.
        """
        with self._checked_by(place) as flags:
            if not flags:
                return False
            asked = [
                *flags,
                *_to_verify(self.words),
                *_flags(place.options),
                place.named(digest),
            ]
            code, said = self._cosign(["verify", *asked], place, quiet)
        if code:
            place.notify(
                Note(message=f"cosign verified no signature of {place.named(digest)}: {said[-1]}")
            )
        return not code

    def sign(self, place: SigningPlace, digest: Digest) -> None:
        """Sign the manifest `digest` in its repository; cosign's output is sent on as notes.

        Raises TransientError if cosign reports a failure of the network, RefusedError if cosign
        fails otherwise, and CancelledError, after it ended cosign, if the push is cancelled.
        """
        key = [] if self.key is None else ["--key", self.key]
        named = place.named(digest)
        asked = ["sign", "--yes", *key, *_flags(place.options), *self.words, named]
        code, said = self._cosign(asked, place, place.notify)
        if code:
            failure = f"cosign did not sign {named} (exit {code}): {said[-1]}"
            if any(map(_NETWORK.search, said)):
                raise TransientError(f"{failure}; running again is safe")
            raise RefusedError(failure)

    @contextmanager
    def _checked_by(self, place: SigningPlace) -> Iterator[list[str]]:
        """Yield the flags that tell `cosign verify` which key or identity must have signed.

        Yields no flags, and sends a note, if key and identity are unknown.
        """
        if self.key is None:
            if not (self.identity and self.issuer):
                unknown = (
                    "existing signatures cannot be checked without --sign-identity and "
                    "--sign-issuer: the image is signed again"
                )
                place.notify(Note(message=unknown))
                yield []
                return
            wanted = ("--certificate-identity", self.identity)
            yield [*wanted, "--certificate-oidc-issuer", self.issuer]
            return
        # `cosign verify` takes a public key. The private key may be in a file or in hardware.
        with tempfile.TemporaryDirectory(prefix="regpush-") as folder:
            public = os.path.join(folder, "key.pub")
            asked = ["public-key", "--key", self.key, "--outfile", public]
            code, said = self._cosign(asked, place, quiet)
            if code or not os.path.exists(public):
                unknown = f"cosign gave no public key of {printable(self.key)}: {said[-1]}"
                place.notify(Note(message=f"{unknown}; the image is signed again"))
                yield []
                return
            yield ["--key", public]

    def _cosign(
        self, words: Sequence[str], place: SigningPlace, notify: Listener
    ) -> tuple[int, Sequence[str]]:
        registry = place.reference.registry
        with _login(place.client.credentials(place.reference), registry) as login:
            return _run([*login, self.program, *words], notify, place.cancel)


def _to_verify(words: Sequence[str]) -> Iterator[str]:
    """Yield the arguments of `cosign sign` that `cosign verify` needs too.

    These are the flags for annotations, the trusted root, the transparency log and the registry.
    """
    following = False
    for word in words:
        flag, _, value = word.partition("=")
        if following or flag in (*_SHARED, *_SWITCHES) or (word[:2] == "-a"):
            following = not following and word in (*_SHARED, "-a")
            yield word
        elif flag == "--tlog-upload" and value == "false":
            yield "--insecure-ignore-tlog=true"


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
    """Yield the words to put before a command so that it logs in to `registry` with `credentials`.

    cosign reads logins from Docker's configuration file only. The words set DOCKER_CONFIG to a
    temporary directory with such a file, deleted afterwards. The password is not passed as an
    argument, because other users can read command lines.
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
    with tempfile.TemporaryDirectory(prefix="regpush-") as folder:  # only this user may read it
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump({"auths": {docker_key(registry): said}}, file)
        yield ["env", f"DOCKER_CONFIG={folder}"]


def _run(command: list[str], notify: Listener, cancel: Cancellation) -> tuple[int, Sequence[str]]:
    """Run `command`, and send each line of its stdout and stderr to `notify` as a note.

    Returns the exit code and the last lines, 20 at most. Ends the command if `cancel` is set.
    """
    last: deque[str] = deque(["it printed nothing"], maxlen=_LINES)

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
        # A process that cosign started may hold stdout open after cosign has ended.
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
    return process.returncode, tuple(last)
