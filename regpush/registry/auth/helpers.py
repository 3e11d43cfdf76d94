"""Credential helpers: programs `docker-credential-NAME` that store logins, e.g. in a key ring.

The protocol is that of docker-credential-helpers: a verb as the only argument, a server address or
a JSON object on standard input, a JSON object or an error message on standard output. Docker shows
its user what a helper prints on standard error.
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from msgspec import Struct

from regpush.errors import AuthError, printable
from regpush.registry.auth.record import Credentials
from regpush.registry.protocol import parse_json

TIMEOUT_S = 60.0
"""Seconds that a helper may take; its user may have to unlock a key ring."""

INPUT_LIMIT = 32 * 1024
"""The maximum number of bytes written to a helper; a pipe takes that many even if none are read."""

_OUTPUT_LIMIT = 64 * 1024
_LOOK_S = 0.1
_WORDS_LIMIT = 200
_TAIL = 4096  # bytes of standard error that are kept: the last line says why
_NOT_FOUND = "credentials not found"
_CONFESSION = re.compile(
    r"[{}]|(secret[\"']?\s*([:=]|is\b))|((password|token)[\"']?\s*[:=])", re.IGNORECASE
)
"""Matches a line that may contain a secret; such a line is not shown."""
_CODE_WORD = re.compile(r"(?=[A-Za-z_+=]*[0-9])[A-Za-z0-9_+=]{20,}", re.ASCII)
"""Matches a word that looks like a token: 20 letters and digits or more."""
_TOKEN_USER = "<token>"  # noqa: S105  the protocol's own name for "the secret is a token"


class Helper(Struct, frozen=True, kw_only=True):
    """The credential helper `name`, as named in the credentials file `named_in`.

    Every method raises AuthError, in one line that names the program, where the program cannot run,
    fails, prints too much, or takes more than a minute. `check` is called ten times a second while
    the program runs; an error that it raises ends the program.
    """

    name: str
    named_in: str
    check: Callable[[], None]

    @property
    def program(self) -> str:
        """The program's name on the PATH."""
        return f"docker-credential-{self.name}"

    def get(self, server: str) -> Credentials | None:
        """Ask the helper for the login for `server`; None if the helper has none."""
        code, said, words = self._run("get", f"{server}\n")
        if code:
            if _NOT_FOUND in said.lower():
                return None
            raise self._failed("get", said, words)
        reply = parse_json(said.encode())
        username = reply.get("Username") if isinstance(reply, dict) else None
        secret = reply.get("Secret") if isinstance(reply, dict) else None
        if not isinstance(username, str) or not isinstance(secret, str):
            raise self._error("answered something other than a user name and a secret")
        if not secret:
            return None
        source = printable(self.program)
        if username == _TOKEN_USER:
            return Credentials(source=source, identity_token=secret)
        return Credentials(source=source, username=username, password=secret)

    def store(self, server: str, username: str, secret: str) -> None:
        """Store the login for `server`, in place of any earlier one."""
        entry = {"ServerURL": server, "Username": username, "Secret": secret}
        code, said, words = self._run("store", json.dumps(entry))
        if code:
            told = [text.replace(secret, "***") for text in (said, words)]
            raise self._failed("store", *told)

    def erase(self, server: str) -> None:
        """Delete the login for `server`; no error if the helper has none."""
        code, said, words = self._run("erase", f"{server}\n")
        if code and _NOT_FOUND not in said.lower():
            raise self._failed("erase", said, words)

    def _run(self, verb: str, text: str) -> tuple[int, str, str]:
        """Run the helper; returns exit code, standard output and the end of standard error."""
        data = text.encode()
        if len(data) > INPUT_LIMIT:
            raise self._error(f"takes {INPUT_LIMIT} bytes at most, and this login is longer")
        try:
            process = subprocess.Popen(
                [self.program, verb],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else None
            raise self._error(f"cannot be run: {(why or str(error)).lower()}") from error
        try:
            with suppress(BrokenPipeError):
                _pipe(process.stdin).write(data)
                _pipe(process.stdin).flush()
            with suppress(BrokenPipeError):
                _pipe(process.stdin).close()
            said, words = self._read(process)
            code = process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise self._silent() from None
        finally:
            # Its own children, which may hold the pipes open, are not waited for.
            process.kill()
            _pipe(process.stdout).close()
            _pipe(process.stderr).close()
            process.wait()
        return code, _text(said), _text(words)

    def _read(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        """Read the program's output.

        Returns all of standard output, and the end of standard error.
        """
        said, words = bytearray(), bytearray()
        left = {_pipe(process.stdout).fileno(): said, _pipe(process.stderr).fileno(): words}
        poll = select.poll()
        for descriptor in left:
            poll.register(descriptor, select.POLLIN)
        end = time.monotonic() + TIMEOUT_S
        while left:
            self.check()
            ended = process.poll() is not None
            ready = poll.poll(_LOOK_S * 1000)
            for descriptor, _ in ready:
                part = os.read(descriptor, 65536)
                left[descriptor] += part
                if not part:
                    poll.unregister(descriptor)
                    del left[descriptor]
            del words[:-_TAIL]
            if len(said) > _OUTPUT_LIMIT:
                raise self._error(f"answered more than {_OUTPUT_LIMIT} bytes")
            if ended and not ready:
                break
            if time.monotonic() > end:
                raise self._silent()
        return bytes(said), bytes(words)

    def _silent(self) -> AuthError:
        return self._error(f"gave no answer in {TIMEOUT_S:g} s")

    def _failed(self, verb: str, said: str, words: str) -> AuthError:
        """Return the error for a failed helper, with the reason that it printed if safe to show."""
        # Standard error is not part of the protocol: a single word there may be the secret.
        last = [line for line in words.splitlines()[-1:] if len(line.split()) > 1]
        lines = [*said.splitlines()[:1], *last]
        reasons = [
            printable(_CODE_WORD.sub("***", line.strip())[:_WORDS_LIMIT])
            for line in dict.fromkeys(lines)
            if line.strip() and not _CONFESSION.search(line)
        ]
        advice = f"no reason given; try '{printable(self.program)} {verb}' by hand"
        return self._error(f"failed: {'; '.join(reasons) or advice}")

    def _error(self, what: str) -> AuthError:
        named = f"the credential helper {printable(self.program)}, named in {self.named_in},"
        return AuthError(f"{named} {what}")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").strip()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise TypeError("Popen was called without a pipe")
    return pipe
