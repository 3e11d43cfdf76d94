"""Signatures by cosign, which the user installs: regpush holds no keys and asks for none."""

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
from dataclasses import dataclass
from threading import Thread

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
"""Messages by which Go programs report a failed network or server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningPlace:
    """The repository of `reference`, where signatures are made, and how its registry is reached."""

    reference: Reference
    options: RegistryOptions
    client: Client
    notify: Listener
    cancel: Cancellation

    def named(self, digest: Digest) -> str:
        """Return the manifest `digest` in this repository in the form that cosign reads."""
        return f"{self.reference.name}@{digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """cosign at `program`, which signs with `key`, or where that is None with an OIDC identity.

    `identity` and `issuer`: those that the certificate of a keyless signature must name to count;
    empty if unknown. `words` are passed on to `cosign sign`.
    """

    program: str
    key: str | None
    identity: str = ""
    issuer: str = ""
    words: tuple[str, ...] = ()

    @classmethod
    def find(cls, options: AttachOptions, pipeline: PipelineIdentity | None = None) -> Signer:
        """Find the cosign on the PATH. Raises UsageError where it is not installed."""
        program = shutil.which("cosign")
        if program is None:
            raise UsageError("--sign needs the program cosign, which is not on the PATH")
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
        """Whether cosign verifies a signature of the manifest, with the same annotations.

        The signature must be made with the key, or by the identity. Where neither is known, a note
        says so and the answer is False.
        """
        with self._checked_by(place) as flags:
            if not flags:
                return False
            asked = [*flags, *_kept(self.words), *_flags(place.options), place.named(digest)]
            code, said = self._cosign(["verify", *asked], place, quiet)
        if code:
            place.notify(
                Note(message=f"no signature of {place.named(digest)} verifies: {said[-1]}")
            )
        return not code

    def sign(self, place: SigningPlace, digest: Digest) -> None:
        """Sign the manifest `digest` in its repository; cosign's output becomes notes.

        Raises TransientError for a failure of the network, RefusedError for any other,
        CancelledError when cosign has ended.
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
        """Return the flags of `cosign verify` that name the accepted signer; empty if unknown."""
        if self.key is None:
            if not (self.identity and self.issuer):
                unknown = (
                    "whether it is signed already cannot be checked without --sign-identity and "
                    "--sign-issuer: it is signed again"
                )
                place.notify(Note(message=unknown))
                yield []
                return
            wanted = ("--certificate-identity", self.identity)
            yield [*wanted, "--certificate-oidc-issuer", self.issuer]
            return
        # The key that signs may be in a file, which `verify` does not take, or in hardware.
        with tempfile.TemporaryDirectory(prefix="regpush-") as folder:
            public = os.path.join(folder, "key.pub")
            asked = ["public-key", "--key", self.key, "--outfile", public]
            code, said = self._cosign(asked, place, quiet)
            if code or not os.path.exists(public):
                unknown = f"the public key of {printable(self.key)} cannot be had: {said[-1]}"
                place.notify(Note(message=f"{unknown}; it is signed again"))
                yield []
                return
            yield ["--key", public]

    def _cosign(
        self, words: Sequence[str], place: SigningPlace, notify: Listener
    ) -> tuple[int, Sequence[str]]:
        registry = place.reference.registry
        with _login(place.client.credentials(place.reference), registry) as login:
            return _run([*login, self.program, *words], notify, place.cancel)


def _kept(words: Sequence[str]) -> Iterator[str]:
    """Select the words for `cosign sign` that `cosign verify` needs too.

    These are annotations, trust and logs.
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
    """Make arguments and environment for a program that logs in to `registry` as we do.

    cosign reads Docker's configuration file, and knows neither our flags nor REGPUSH_AUTH. The
    password is written to a temporary file, because other users can read command lines; the file is
    deleted afterwards.
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


def _run(command: list[str], notify: Listener, cancel: Cancellation) -> tuple[int, Sequence[str]]:
    """Run `command`; returns its exit code and its last lines on stdout or stderr."""
    last: deque[str] = deque(["it says nothing"], maxlen=_LINES)

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
    return process.returncode, tuple(last)
