"""What `regpush init` writes, pushed and started: the container answers over HTTP."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bases import OFFICIAL, put_stand_in
from tests.containers import Container, answer
from tests.flow.test_push_directory import write
from tests.program import environment, regpush
from tests.registry.parts import real_part
from tests.registry.servers import Registry
from tests.test_quickstarts import (
    CARGO,
    EXPRESS,
    FASTAPI,
    FLASK,
    GO,
    JAVA,
    RUST,
    tools_of_this_user,
)

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="containers of runc need root here")

_PIP = "pip install -q --target deps -r requirements.txt"
_DJANGO = """
import os, sys
if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
"""
_SETTINGS = """
from django.http import HttpResponse
from django.urls import path
SECRET_KEY, ROOT_URLCONF, ALLOWED_HOSTS, DEBUG = "x", "shop.settings", ["*"], True
urlpatterns = [path("", lambda request: HttpResponse("hello"))]
"""
_PACKAGE = '{"name": "web", "main": "server.js", "dependencies": {"express": "4"}}'
_NEXT = {
    "app/route.js": "export function GET() { return new Response('hello') }",
    "package.json": '{"name": "web", "scripts": {"build": "next build"}, '
    '"dependencies": {"next": "16", "react": "19", "react-dom": "19"}}',
    ".dockerignore": "node_modules\n.next\n",
}
_NPM_BUILD = "export NEXT_TELEMETRY_DISABLED=1; npm install --silent && npm run build"
_CARGO = CARGO.strip().replace("hello", "web")

KINDS = {
    "flask": ({"app.py": FLASK, "requirements.txt": "flask\n"}, _PIP, "pip"),
    "flask-gunicorn": ({"app.py": FLASK, "requirements.txt": "flask\ngunicorn\n"}, _PIP, "pip"),
    "fastapi": ({"main.py": FASTAPI, "requirements.txt": "fastapi\nuvicorn\n"}, _PIP, "pip"),
    "django": (
        {"manage.py": _DJANGO, "shop/settings.py": _SETTINGS, "requirements.txt": "django\n"},
        _PIP,
        "pip",
    ),
    "express": (
        {"server.js": EXPRESS.replace("8000", "3000"), "package.json": _PACKAGE},
        "npm install --silent --no-package-lock",
        "npm",
    ),
    "express-locked": (
        {"server.js": EXPRESS.replace("8000", "3000"), "package.json": _PACKAGE},
        "npm install --silent --package-lock-only",
        "npm",
    ),
    "next": (_NEXT, _NPM_BUILD, "npm"),
    "next-standalone": (
        {**_NEXT, "next.config.js": 'module.exports = { output: "standalone" }', "public/x": "x"},
        f"{_NPM_BUILD} && cp -r .next/static .next/standalone/.next/ "
        "&& cp -r public .next/standalone/",
        "npm",
    ),
    "go": (
        {"main.go": GO.replace("8000", "8080"), "go.mod": "module example.com/web\n\ngo 1.20\n"},
        "CGO_ENABLED=0 go build -o bin/web .",
        "go",
    ),
    "rust": (
        {"Cargo.toml": _CARGO, "src/main.rs": RUST.replace("8000", "8080")},
        "cargo build -q --release",
        "cargo",
    ),
    "jar": (
        {"Hello.java": JAVA.replace("8000", "8080"), "pom.xml": "<project/>"},
        "javac -d classes Hello.java && mkdir target && "
        "jar --create --file target/web.jar --main-class Hello -C classes .",
        "javac",
    ),
    "static": ({"index.html": "hello"}, "true", "nginx"),
}
SHORT = {"static"}


@pytest.mark.parametrize(
    "kind", [kind if kind in SHORT else pytest.param(kind, marks=pytest.mark.soak)
             for kind in KINDS],
)  # fmt: skip
def test_what_init_writes_runs(docker_registry: Registry, tmp_path: Path, kind: str) -> None:
    files, command, tool = KINDS[kind]
    real_part(tool)
    home = tmp_path / "web"
    for name, text in files.items():
        write(home / name, text)
    env = environment(HOME=str(tmp_path / "home"), **tools_of_this_user())
    del env["PYTHONWARNINGS"]  # pip is not ours
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"  # whose pip fits the stand-in
    made = subprocess.run(["bash", "-euc", command], cwd=home, env=env, capture_output=True)
    assert made.returncode == 0, made.stderr
    regpush("init", cwd=home).ok()
    written = home / "regpush.toml"
    text = written.read_text().replace("registry.example.com", f"{docker_registry.host}/{kind}")
    ports = re.findall(r'expose = \["(\d+)"\]', text)
    for official in set(re.findall(r'^from = "(.+)"', text, re.MULTILINE)):
        assert official in OFFICIAL
        text = text.replace(official, put_stand_in(docker_registry, official))
    written.write_text(text)
    pushed = regpush("web", "--no-cache", "--strict", cwd=home, timeout=300).ok()
    container = Container(image=pushed.stdout.strip(), port=int(ports[0]))
    assert answer(container, tmp_path) == "hello"
