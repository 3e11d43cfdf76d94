"""How apps of known kinds are run, by small projects as their frameworks' documents show them."""

from pathlib import Path

import pytest

from regpush.project.init import ignore_file
from regpush.project.launch import find_launch, from_dockerignore
from regpush.project.survey import look

FLASK = "from flask import Flask\n\napp = Flask(__name__)\n"
FASTAPI = "from fastapi import FastAPI\n\nservice: FastAPI = FastAPI()\n"
MANAGE = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"
ALL = "0.0.0.0"


@pytest.mark.parametrize(
    ("files", "what", "target", "base", "words", "port"),
    [
        ({"app.py": FLASK}, "Flask", None, "docker.io/library/python:3.12-slim",
         "python -m flask --app app run --host 0.0.0.0 --port 8000", 8000),
        ({"wsgi.py": FLASK, "requirements.txt": "gunicorn\n", ".python-version": "3.13.1"}, "Flask",
         None, "docker.io/library/python:3.13-slim",
         "python -m gunicorn --bind 0.0.0.0:8000 wsgi:app", 8000),
        ({"main.py": FASTAPI, "uv.lock": ""}, "FastAPI", "python:.", None,
         "uvicorn main:service --host 0.0.0.0 --port 8000", 8000),
        ({"manage.py": MANAGE, "pylock.toml": "", "pyproject.toml": "dependencies = ['gunicorn']"},
         "Django", "python:.", None, "gunicorn --bind 0.0.0.0:8000 shop.wsgi", 8000),
        ({"pyproject.toml": "[project.scripts]", "uv.lock": "", "shop/__init__.py": ""}, "Python",
         "python:.", None, "", 8000),
        ({"package.json": '{"dependencies": {"express": "5"}, "engines": {"node": ">=20"}}'},
         "Express", None, "docker.io/library/node:20-slim", "", 3000),
        ({"package.json": '{"dependencies": {"next": "16"}}', ".nvmrc": "v24"},
         "Next.js", None, "docker.io/library/node:24-slim",
         "node node_modules/next/dist/bin/next start", 3000),
        ({"package.json": '{"dependencies": {"next": "16"}}', "package-lock.json":
          '{"lockfileVersion": 3}', "next.config.ts": "const c = {\n  output: 'standalone',\n}"},
         "Next.js", ".next/standalone", "docker.io/library/node:22-slim", "node server.js", 3000),
        ({"package.json": '{"dependencies": {"express": "5"}}',
          "package-lock.json": '{\n  "lockfileVersion": 3'},
         "Express", "node:.", "docker.io/library/node:22-slim", "", 3000),
        ({"go.mod": "module example.com/me/tool\n"}, "Go", "bin/tool", None, "", 8080),
        ({"Cargo.toml": '[package]\nname = "tool"\n'}, "Rust", "target/release/tool",
         "docker.io/library/debian:stable-slim", "", 8080),
        ({"pom.xml": "<artifactId>spring-boot-starter</artifactId>", "target/a-1.jar": "",
          "target/a-1-sources.jar": ""}, "Spring Boot", "target/a-1.jar",
         "docker.io/library/eclipse-temurin:21-jre", "", 8080),
        ({"public/index.html": ""}, "static files", "public", "docker.io/library/nginx:alpine",
         "", 80),
    ],
)  # fmt: skip
def test_the_kinds_of_apps(tmp_path: Path, files, what, target, base, words, port) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = find_launch(str(tmp_path))
    assert found is not None
    assert (found.what, found.target, found.base) == (what, target, base)
    assert (" ".join(found.entrypoint), found.port) == (words, port)


@pytest.mark.parametrize("files", [{}, {"package.json": "[1"}, {"app.py": "print('Flask(')"}])
def test_nothing_is_made_up(tmp_path: Path, files) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert find_launch(str(tmp_path)) is None


def test_the_cache_of_a_build_is_no_part_of_an_image(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "web", "dependencies": {"next": "16"}}')
    told = ignore_file(look(str(tmp_path)))
    assert told is not None
    assert told.splitlines()[1:] == ["/.next/cache"]
    (tmp_path / ".dockerignore").write_text("Dockerfile\n.git\n.next\nREADME.md\n")
    told = ignore_file(look(str(tmp_path)))
    assert told is not None
    assert told.splitlines()[1:] == [
        "# not translated, because a push needs these files: Dockerfile",
        "# not translated, because a push needs these files: .next",
        "/.git",
        "/README.md",
        "/.next/cache",
    ]


def test_patterns_of_docker_start_at_the_root() -> None:
    found = from_dockerignore("*.md\n./docs/\n**/tmp\n!README.md\n/x\n.venv/\nDockerfile*\n")
    assert found.kept == ("/*.md", "/docs", "**/tmp", "!/README.md", "/x")
    assert found.left == (".venv/", "Dockerfile*")
