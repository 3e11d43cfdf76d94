"""Makes wheels, serves them by an index that counts requests, and writes lock files."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import ssl
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True)
class Wheel:
    """A wheel on disk; `needs`: its Requires-Dist."""

    path: Path
    name: str
    version: str
    needs: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def size(self) -> int:
        return self.path.stat().st_size


def record_hash(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    files: Mapping[str, bytes | str] | None = None,
    *,
    tag: str = "py3-none-any",
    scripts: Mapping[str, str] | None = None,
    needs: Sequence[str] = (),
    executable: Sequence[str] = (),
    stored: bool = False,
    info_version: str | None = None,
) -> Wheel:
    """Write a wheel with `files` by name, by default one module.

    `scripts`: console scripts. `needs`: values of Requires-Dist. zipfile writes the wheel; no code
    of regpush is used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spelled = name.replace("-", "_")
    info = f"{spelled}-{info_version or version}.dist-info"
    contents = {f"{spelled}.py": f"VERSION = '{version}'\n"} if files is None else dict(files)
    contents[f"{info}/METADATA"] = "\n".join(
        ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        + [f"Requires-Dist: {one}" for one in needs]
        + [""]
    )
    contents[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
    if scripts:
        lines = "".join(f"{key} = {value}\n" for key, value in scripts.items())
        contents[f"{info}/entry_points.txt"] = f"[console_scripts]\n{lines}"
    raw = {key: v.encode() if isinstance(v, str) else v for key, v in contents.items()}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows((key, record_hash(value), len(value)) for key, value in raw.items())
    writer.writerow((f"{info}/RECORD", "", ""))
    raw[f"{info}/RECORD"] = text.getvalue().encode()
    path = folder / f"{spelled}-{version}-{tag}.whl"
    method = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w", method) as archive:
        for key, value in raw.items():
            entry = zipfile.ZipInfo(key)
            entry.compress_type = method
            entry.external_attr = (0o100755 if key in executable else 0o100644) << 16
            archive.writestr(entry, value)
    return Wheel(path, name, version, tuple(needs))


@dataclass
class Index:
    """A running HTTP server of the files in `folder`; `gets` are the names requested, in order.

    `answers`: by file name, replies (status, headers) to the first requests for the file, in place
    of the file. `login`: user and password that the server demands. `cut_after`: bytes after which
    the next longer reply breaks off, once.
    """

    folder: Path
    url: str = ""
    gets: list[str] = field(default_factory=list)
    bytes_sent: int = 0
    answers: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)
    logins_seen: list[str] = field(default_factory=list)
    login: tuple[str, str] | None = None
    cut_after: int | None = None

    def url_of(self, wheel: Wheel) -> str:
        return f"{self.url}/packages/{wheel.path.name}"


@contextmanager
def serve(folder: Path, tls: ssl.SSLContext | None = None) -> Iterator[Index]:
    """Serve `folder` as an index at 127.0.0.1 while the block lasts."""
    index = Index(folder)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.partition("?")[0].rpartition("/")[2]
            with lock:
                index.gets.append(name)
                index.logins_seen.append(self.headers.get("Authorization", ""))
                planned = index.answers.get(name, [])
                answer = planned.pop(0) if planned else None
            wanted = index.login and base64.b64encode(":".join(index.login).encode()).decode()
            if wanted and self.headers.get("Authorization") != f"Basic {wanted}":
                answer = (401, {})
            file = folder / name
            if answer is None and not file.is_file():
                answer = (404, {})
            if answer:
                self.send_response(answer[0])
                for key, value in answer[1].items():
                    self.send_header(key, value)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data, start = file.read_bytes(), 0
            if said := self.headers.get("Range"):
                start = int(said.removeprefix("bytes=").removesuffix("-"))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            body = data[start:]
            if index.cut_after is not None and len(body) > index.cut_after:
                body, index.cut_after = body[: index.cut_after], None
                self.close_connection = True
            self.wfile.write(body)
            with lock:
                index.bytes_sent += len(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    scheme = "https" if tls else "http"
    index.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()


UrlOf = Callable[[Wheel], str]


def write_pylock(
    project: Path, wheels: Sequence[Wheel], url_of: UrlOf, *, more: str = "", head: str = ""
) -> Path:
    """Write a `pylock.toml` (PEP 751); wheels of one name and version make one package.

    Returns its path.
    """
    by_name: dict[tuple[str, str], list[Wheel]] = {}
    for wheel in wheels:
        by_name.setdefault((wheel.name, wheel.version), []).append(wheel)
    text = ['lock-version = "1.0"', 'created-by = "the tests"', head]
    for (name, version), several in by_name.items():
        text += ["[[packages]]", f'name = "{name}"', f'version = "{version}"']
        if needs := several[0].needs:
            named = ", ".join(f'{{ name = "{one}" }}' for one in needs)
            text.append(f"dependencies = [{named}]")
        files = ",\n".join(
            f'{{ url = "{url_of(one)}", size = {one.size}, '
            f'hashes = {{ sha256 = "{one.sha256}" }} }}'
            for one in several
        )
        text.append(f"wheels = [{files}]")
    path = project / "pylock.toml"
    path.write_text("\n".join([*text, more]) + "\n")
    return path


def write_uv_lock(
    root: Path,
    wheels: Sequence[Wheel],
    url_of: UrlOf,
    members: Sequence[str],
    *,
    requires_python: str = ">=3.11",
) -> Path:
    """Write a `uv.lock` in uv's form; returns its path.

    `members`: the whole tables of local packages.
    """
    registry = url_of(wheels[0]).rpartition("/packages/")[0] + "/simple" if wheels else "x"
    text = ["version = 1", "revision = 3", f'requires-python = "{requires_python}"', ""]
    blocks = {}
    for wheel in wheels:
        needs = "".join(f'    {{ name = "{one}" }},\n' for one in wheel.needs)
        blocks[wheel.name] = "\n".join(
            [
                "[[package]]",
                f'name = "{wheel.name}"',
                f'version = "{wheel.version}"',
                f'source = {{ registry = "{registry}" }}',
                *([f"dependencies = [\n{needs}]"] if needs else []),
                "wheels = [",
                f'    {{ url = "{url_of(wheel)}", hash = "sha256:{wheel.sha256}", '
                f"size = {wheel.size} }},",
                "]",
                "",
            ]
        )
    path = root / "uv.lock"
    path.write_text("\n".join([*text, *blocks.values(), *members]))
    return path
