"""Credential helpers: programs `docker-credential-NAME` that keep secrets for others.

The protocol is docker-credential-helpers': a verb as the only argument, a server address or
a JSON object on standard input, a JSON object or an error message on standard output.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from regpush.errors import UsageError, printable
from regpush.registry.auth.record import Credentials
from regpush.registry.protocol import parse_json

TIMEOUT_S = 60.0
"""Someone may have to unlock a key ring meanwhile."""

INPUT_LIMIT = 32 * 1024
"""Bytes handed to a helper: a pipe takes that much at once, whether it is read or not."""

_OUTPUT_LIMIT = 64 * 1024
_LOOK_S = 0.1
_WORDS_LIMIT = 200
_NOT_FOUND = "credentials not found"
_TOKEN_USER = "<token>"  # noqa: S105  the protocol's own name for "the secret is a token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Helper:
    """The helper `name`, as the file `named_in` calls it.

    Every method raises UsageError, in one line that names the program, where it does not
    run, fails, says too much or nothing in a minute; and what `check` raises, which is
    called ten times a second while it runs.
    """

    name: str
    named_in: str
    check: Callable[[], None]

    @property
    def program(self) -> str:
        """The program's name on the search path."""
        return f"docker-credential-{self.name}"

    def get(self, server: str) -> Credentials | None:
        """The login for `server`, if the helper has one."""
        code, said = self._run("get", f"{server}\n")
        if code:
            if _NOT_FOUND in said.lower():
                return None
            raise self._failed("get", said)
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
        """Hand over the login for `server`, in place of what there was."""
        entry = {"ServerURL": server, "Username": username, "Secret": secret}
        code, said = self._run("store", json.dumps(entry))
        if code:
            raise self._failed("store", said.replace(secret, "***"))

    def erase(self, server: str) -> None:
        """Forget the login for `server`."""
        code, said = self._run("erase", f"{server}\n")
        if code and _NOT_FOUND not in said.lower():
            raise self._failed("erase", said)

    def _run(self, verb: str, text: str) -> tuple[int, str]:
        """The exit code, and what was written on standard output."""
        data = text.encode()
        if len(data) > INPUT_LIMIT:
            raise self._error(f"takes {INPUT_LIMIT} bytes at most")
        try:
            process = subprocess.Popen(
                [self.program, verb],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # By protocol the reason stands on standard output. What else a helper has to
                # say nobody vouches for: it may well be the secret.
                stderr=subprocess.DEVNULL,
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else None
            raise self._error(f"does not run: {(why or str(error)).lower()}") from error
        try:
            with suppress(BrokenPipeError):
                _pipe(process.stdin).write(data)
                _pipe(process.stdin).flush()
            with suppress(BrokenPipeError):
                _pipe(process.stdin).close()
            said = self._read(process)
            code = process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise self._silent() from None
        finally:
            # Its own children, which may hold the pipe open, are not waited for.
            process.kill()
            _pipe(process.stdout).close()
            process.wait()
        return code, said.decode("utf-8", "replace").strip()

    def _read(self, process: subprocess.Popen[bytes]) -> bytes:
        output = _pipe(process.stdout).fileno()
        poll = select.poll()
        poll.register(output, select.POLLIN)
        end = time.monotonic() + TIMEOUT_S
        said = b""
        while len(said) <= _OUTPUT_LIMIT:
            self.check()
            ended = process.poll() is not None
            if poll.poll(_LOOK_S * 1000):
                part = os.read(output, 65536)
                if not part:
                    return said
                said += part
            elif ended:
                return said
            elif time.monotonic() > end:
                raise self._silent()
        raise self._error(f"answered more than {_OUTPUT_LIMIT} bytes")

    def _silent(self) -> UsageError:
        return self._error(f"gave no answer in {TIMEOUT_S:g} s")

    def _failed(self, verb: str, said: str) -> UsageError:
        first = printable(said.splitlines()[0][:_WORDS_LIMIT]) if said else ""
        if not first or "{" in first or "secret" in said.lower():
            # An object, or what speaks of a secret, may be one: it is not shown.
            first = f"no reason given; try '{printable(self.program)} {verb}' by hand"
        return self._error(f"failed: {first}")

    def _error(self, what: str) -> UsageError:
        named = f"the credential helper {printable(self.program)}, named in {self.named_in},"
        return UsageError(f"{named} {what}")


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise TypeError("a pipe that was asked for is not there")
    return pipe
