"""Directories: items, identities, what is left out, and what is refused."""

from __future__ import annotations

import io
import json
import os
import socket
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from regpush.closure import Closure, Role, Scheme
from regpush.concurrency import Cancellation
from regpush.entry import Entry, Kind, Profile
from regpush.errors import CancelledError, SourceError, UsageError
from regpush.events import InputWarned, Note, TargetResolved, ignore
from regpush.layering import strategies
from regpush.layering.plan import PlanContext
from regpush.options import SourceOptions
from regpush.ownership import Rule
from regpush.pack.tar import ArchiveOptions
from regpush.sources.identity import identify
from regpush.sources.stats import Stats
from regpush.sources.targets import resolve
from regpush.sources.tools import Workshop
from regpush.tree_hash import TreeHash
from tests.packing import pack
from tests.sources.conftest import Resolved, Write, needs_root, take

APP = {
    "main.py": "print('hello')\n",
    "lib/util.py": "x = 1\n",
    "node_modules/.bin/tool": "#!/bin/sh\n",
    "node_modules/.package-lock.json": "{}",
    "node_modules/express/index.js": "module.exports = 1\n",
    "node_modules/express/node_modules/debug/index.js": "nested",
    "node_modules/@babel/core/index.js": "core",
    "node_modules/@babel/types/index.js": "types",
    "web/node_modules/vue/vue.js": "vue",
}


CONTEXT = PlanContext(max_layers=64)


def paths(closure: Closure) -> dict[str, list[str]]:
    """The image paths in each item, by its path."""
    return {
        item.path: [os.fsdecode(entry.path) for entry in item.entries()] for item in closure.items
    }


def notes(found: Resolved) -> list[str]:
    return [event.message for event in found.events if isinstance(event, Note)]


def test_own_code_and_every_package_are_items(write: Write) -> None:
    root = write(APP)
    (root / "node_modules/linked").symlink_to("../lib")
    found = take(root)
    assert found.closure.roots == ("/app",)
    assert paths(found.closure) == {
        "/app": ["app", "app/lib", "app/lib/util.py", "app/main.py", "app/web"],
        "/app/node_modules": [
            "app/node_modules",
            "app/node_modules/.bin",
            "app/node_modules/.bin/tool",
            "app/node_modules/@babel",
            "app/node_modules/linked",
        ],
        "/app/node_modules/.package-lock.json": ["app/node_modules/.package-lock.json"],
        "/app/node_modules/@babel/core": [
            "app/node_modules/@babel/core",
            "app/node_modules/@babel/core/index.js",
        ],
        "/app/node_modules/@babel/types": [
            "app/node_modules/@babel/types",
            "app/node_modules/@babel/types/index.js",
        ],
        "/app/node_modules/express": [
            "app/node_modules/express",
            "app/node_modules/express/index.js",
            "app/node_modules/express/node_modules",
            "app/node_modules/express/node_modules/debug",
            "app/node_modules/express/node_modules/debug/index.js",
        ],
        "/app/web/node_modules": ["app/web/node_modules"],
        "/app/web/node_modules/vue": [
            "app/web/node_modules/vue",
            "app/web/node_modules/vue/vue.js",
        ],
    }
    own = found.closure["/app"]
    assert (own.name, own.role, own.parents, own.size) == ("app", Role.OWN, (), 21)
    core = found.closure["/app/node_modules/@babel/core"]
    assert (core.name, core.origin, core.role) == ("@babel/core", "@babel/core", Role.ORDINARY)
    assert [parent.path for parent in core.parents] == [
        b"app", b"app/node_modules", b"app/node_modules/@babel",
    ]  # fmt: skip
    rest = found.closure["/app/node_modules"]
    assert (rest.name, [parent.path for parent in rest.parents]) == ("node_modules", [b"app"])
    size = sum(map(len, APP.values()))
    assert found.events == [TargetResolved(target=str(root), kind="directory", items=8, size=size)]


def test_resolving_lists_but_reads_nothing(write: Write) -> None:
    root = write(APP)
    stop = Cancellation()
    closure = resolve([str(root)], SourceOptions(), (), workshop=Workshop(ignore, stop))
    assert {item.identity for item in closure.items} == {None}
    assert {item.path: item.size for item in closure.items} == {
        item.path: item.size for item in take(root).closure.items
    }
    (root / "main.py").write_text("print('goodbye')\n")
    with pytest.raises(SourceError, match=r"main\.py: changed while it was being read"):
        identify(closure, Stats(None), stop, now_ns=0)


def test_what_was_listed_is_what_is_packed(write: Write) -> None:
    """A push holds one listing: what comes later belongs to the next."""
    root = write(APP)
    closure = take(root).closure
    before = paths(closure)
    write({"late.py": "", "node_modules/late/x": ""})
    assert paths(closure) == before
    assert paths(take(root).closure) != before


def test_an_identity_is_over_parents_and_entries(write: Write) -> None:
    root = write(APP)
    for item in take(root).closure.items:
        tree = TreeHash()
        for parent in item.parents:
            tree.add(parent)
        for entry in item.entries():
            on_disk = root / os.fsdecode(entry.path.removeprefix(b"app").lstrip(b"/"))
            is_file = entry.kind is Kind.FILE
            tree.add(entry, blake3(on_disk.read_bytes()).digest() if is_file else b"")
        assert item.identity.scheme is Scheme.TREE
        assert item.identity.digest == tree.digest(), item.path


@pytest.mark.parametrize(("root_dir", "preserve"), [("/app", False), ("/", False), ("/app", True)])
def test_packing_agrees_with_the_identities(write: Write, root_dir: str, preserve: bool) -> None:
    files = APP | venv("python3.11", six="1.16")
    root = write(files)
    closure = take(root, root_dir=root_dir, preserve=preserve).closure
    options = ArchiveOptions(profile=closure.profile)
    with tarfile.open(fileobj=io.BytesIO(b"".join(pack(closure.items, options)))) as tar:
        for path, content in files.items():
            member = tar.extractfile(f"{root_dir}/{path}".strip("/"))
            assert member is not None
            assert member.read() == content.encode()
    (root / "node_modules/express/index.js").write_text("module.exports = 2\n")
    with pytest.raises(SourceError, match=r"express/index.js: changed while it was"):
        for _ in pack(closure.items, options):
            pass


def test_a_change_in_one_package_changes_one_identity(write: Write) -> None:
    before = take(write(APP)).closure
    after = take(write({"node_modules/express/index.js": "changed"})).closure
    changed = [i.path for i, j in zip(before.items, after.items, strict=True) if i != j]
    assert changed == ["/app/node_modules/express"]


def test_identities_do_not_depend_on_place_time_user_or_umask(write: Write, tmp_path: Path) -> None:
    first = write(APP)
    second = tmp_path / "else/app"
    for path in reversed(list(APP)):
        file = second / path
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.write_text(APP[path])
        file.chmod(0o600)
        os.utime(file, (1, 1))
        if os.geteuid() == 0:
            os.chown(file, 1234, 1234)
    (second / "main.py").chmod(0o640)
    assert take(first).closure == take(second).closure
    assert take(first, preserve=True).closure != take(second, preserve=True).closure
    (second / "main.py").chmod(0o755)
    assert take(first).closure != take(second).closure


def test_what_the_directory_is_called_decides_nothing(write: Write, tmp_path: Path) -> None:
    large = {f"static/{number}.jpg": os.urandom(300_000) for number in range(9)}
    large |= {f"src/{number}.py": "x = 1\n" * 9000 for number in range(9)}
    root = write(APP | large)
    plans = []
    for name in ("app", "build-1234", "shop-api", "é", "x" * 200):
        root = root.rename(tmp_path / name)
        closure = take(root).closure
        plans.append([layer.items for layer in strategies.plan(closure, "stable", CONTEXT).layers])
    assert all(plan == plans[0] for plan in plans)
    top = plans[0][-1]
    assert {item.path for item in top} == {"/app"}
    assert len(plans[0]) > 9


def test_the_place_in_the_image(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(APP)
    monkeypatch.chdir(root)
    closure = take(".", root_dir="/srv/my app").closure
    assert closure.roots == ("/srv/my app",)
    assert closure.profile is Profile.STORE
    own, vue = closure["/srv/my app"], closure["/srv/my app/web/node_modules/vue"]
    assert own.name == "my app"
    assert own.parents == ()
    assert [parent.path for parent in vue.parents] == [
        b"srv/my app", b"srv/my app/web", b"srv/my app/web/node_modules",
    ]  # fmt: skip
    closure = take("../app", root_dir="/").closure
    assert closure.roots == ("/",)
    assert closure.profile is Profile.TREE
    assert next(closure["/"].entries()).path == b"lib"
    vue = closure["/web/node_modules/vue"]
    assert [parent.path for parent in vue.parents] == [b"web", b"web/node_modules"]


@pytest.mark.parametrize(
    "root_dir", ["", "app", "./app", "/app/", "//app", "/a/../b", "/a/./b", "/..", "/a//b", "/a\0"]
)
def test_a_bad_place_is_a_usage_error(write: Write, root_dir: str) -> None:
    with pytest.raises(UsageError, match=r"bad --root-dir"):
        take(write(APP), root_dir=root_dir)


def test_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    assert paths(take(tmp_path / "app").closure) == {"/app": ["app"]}
    assert paths(take(tmp_path / "app", root_dir="/").closure) == {"/": []}


def venv(python: str, **versions: str) -> dict[str, str]:
    """The files of a virtual environment with a package `name/` for each name, by version."""
    site = f".venv/lib/{python}/site-packages"
    files = {".venv/pyvenv.cfg": "home = /usr\n", ".venv/bin/python": "", f"{site}/x.pth": ""}
    for name, version in versions.items():
        info = f"{name}-{version}.dist-info"
        files[f"{site}/{name}/__init__.py"] = f"version = '{version}'\n"
        files[f"{site}/{info}/METADATA"] = f"Name: {name}\n"
        record = [f"{name}/__init__.py,sha256=x,1", f"{info}/RECORD,,", "../../../bin/x,,"]
        files[f"{site}/{info}/RECORD"] = "\n".join(record) + "\n"
    return files


def test_python_packages_are_what_their_record_lists(write: Write) -> None:
    site = "env/lib/python3.12/site-packages"
    root = write(
        {
            "env/pyvenv.cfg": "home = /usr\n",
            "env/bin/activate": "",
            f"{site}/yaml/__init__.py": "",
            f"{site}/_yaml/__init__.py": "",
            f"{site}/PyYAML-6.0.dist-info/RECORD": 'yaml/x.py,,\n_yaml/x.py,,\n"a,b",,\n',
            f"{site}/six.py": "",
            f"{site}/__pycache__/six.cpython-312.pyc": "",
            f"{site}/six-1.16.0.dist-info/RECORD": "six.py,,\n__pycache__/six.cpython-312.pyc,,\n"
            "/absolute,,\n../../../bin/six,,\n",
            f"{site}/numpy/__init__.py": "",
            f"{site}/numpy.libs/libblas.so": "",
            f"{site}/numpy-2.0.dist-info/RECORD": "numpy/__init__.py,,\nnumpy.libs/libblas.so,,\n",
            f"{site}/google/a/__init__.py": "",
            f"{site}/google/b/__init__.py": "",
            f"{site}/google_a-1.dist-info/RECORD": "google/a/__init__.py,,\n",
            f"{site}/google_b-1.dist-info/RECORD": "google/b/__init__.py,,\n",
            f"{site}/old-0.1.egg-info/top_level.txt": "older\n",
            f"{site}/older.py": "",
            f"{site}/copied/__init__.py": "",
            f"{site}/broken-1.dist-info/METADATA": "",
            f"{site}/loose.pth": "",
        }
    )
    closure = take(root).closure
    items = {
        item.path.removeprefix(f"/app/{site}/"): item
        for item in closure.items
        if item.role is not Role.RECORD
    }
    assert {path: item.name for path, item in items.items()} == {
        "/app": "app",
        "/app/env": "env",
        "_yaml": "pyyaml",
        "six.py": "six",
        "numpy": "numpy",
        "google": "google",
        "google_a-1.dist-info": "google-a",
        "google_b-1.dist-info": "google-b",
        "older.py": "old",
        "copied": "copied",
        "broken-1.dist-info": "broken",
    }
    held = {path.removeprefix(f"/app/{site}/"): set(p) for path, p in paths(closure).items()}
    at = f"app/{site}"
    assert {f"{at}/PyYAML-6.0.dist-info", f"{at}/_yaml", f"{at}/yaml"} <= held["_yaml"]
    assert {f"{at}/numpy", f"{at}/numpy.libs/libblas.so"} <= held["numpy"]
    assert {f"{at}/six.py", f"{at}/six-1.16.0.dist-info"} <= held["six.py"]
    assert {at, f"{at}/loose.pth", f"{at}/__pycache__/six.cpython-312.pyc"} <= held["/app/env"]
    records = next(item for item in closure.items if item.role is Role.RECORD)
    assert {os.fsdecode(entry.path) for entry in records.entries()} == {
        "app/env/pyvenv.cfg",
        *(f"app/{path}" for path in root_files(root) if path.endswith("/RECORD")),
    }


def root_files(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]


def test_a_real_virtual_environment_is_covered_once(tmp_path: Path) -> None:
    """The one that runs these tests: pytest is in it, and every file is in exactly one item."""
    site = Path(pytest.__file__).parent.parent
    closure = take(f"dir:{site.parent}", root_dir="/lib").closure
    listed = [entry.path for item in closure.items for entry in item.entries()]
    assert len(listed) == len(set(listed))
    expected = {b"lib"}
    for directory, directories, files in os.walk(os.fsencode(site.parent)):
        relative = os.path.relpath(directory, os.fsencode(site.parent))
        compiled = os.path.basename(directory) == b"__pycache__"
        if compiled:
            # PEP 552: the second word of the header is 0 where the time of the source counts.
            files = [
                x
                for x in files
                if Path(os.fsdecode(directory), os.fsdecode(x)).read_bytes()[4:8] != bytes(4)
            ]
        if compiled and not files:
            expected.discard(os.path.normpath(b"lib/" + relative))
        expected |= {os.path.normpath(b"lib/" + relative + b"/" + x) for x in directories + files}
    assert set(listed) == expected
    record = next(site.glob("pytest-*.dist-info/RECORD")).read_text().splitlines()
    ours = {os.fsdecode(entry.path) for entry in closure[f"/lib/{site.name}/pytest"].entries()}
    recorded = {line.split(",")[0] for line in record}
    assert {
        f"lib/{site.name}/{path}"
        for path in recorded
        if (site / path).exists() and ".." not in path and "__pycache__" not in path
    } <= ours | {f"lib/{site.name}/{path}" for path in recorded if path.endswith("/RECORD")}


FOLDERS = {
    "go": (
        {
            "vendor/modules.txt": "# example.org/a/b v1.0.0\n## explicit\nexample.org/a/b\n"
            "# example.org/a/b/v2 v2.0.0\n# example.org/c v0.1.0 => ../c\n",
            "vendor/example.org/a/b/b.go": "",
            "vendor/example.org/a/b/v2/b.go": "",
            "vendor/example.org/c/c.go": "",
            "vendor/example.org/unlisted/u.go": "",
        },
        {
            "vendor": "vendor",
            "vendor/example.org/a/b": "example.org/a/b",
            "vendor/example.org/c": "example.org/c",
        },
    ),
    "composer": (
        {
            "vendor/autoload.php": "",
            "vendor/composer/installed.json": "",
            "vendor/composer/semver/x.php": "",
            "vendor/monolog/monolog/x.php": "",
        },
        {
            "vendor": "vendor",
            "vendor/composer/semver": "composer/semver",
            "vendor/monolog/monolog": "monolog/monolog",
        },
    ),
    "bundler": (
        {
            "vendor/bundle/ruby/3.2.0/gems/rack-test-2.1.0/x.rb": "",
            "vendor/bundle/ruby/3.2.0/gems/nokogiri-1.15-x86_64-linux/x.rb": "",
            "vendor/bundle/ruby/3.2.0/bin/rackup": "",
            "vendor/assets/x.js": "",
            ".bundle/config": "BUNDLE_PATH: vendor",
            "sub/.bundle/ruby/3.2.0/gems/rake-13.0/x.rb": "",
        },
        {
            "vendor": "vendor",
            "vendor/assets": "assets",
            "vendor/bundle/ruby/3.2.0/gems/rack-test-2.1.0": "rack-test",
            "vendor/bundle/ruby/3.2.0/gems/nokogiri-1.15-x86_64-linux": "nokogiri",
            "sub/.bundle/ruby": "ruby",
            "sub/.bundle/ruby/3.2.0/gems/rake-13.0": "rake",
        },
    ),
    "pnpm": (
        {
            "node_modules/.pnpm/express@4.18.2/node_modules/express/x.js": "",
            "node_modules/.pnpm/@babel+core@7.0.0/node_modules/@babel/core/x.js": "",
            "node_modules/.pnpm/react-dom@18.2.0_react@18.2.0/node_modules/react-dom/x.js": "",
            "node_modules/.pnpm/lock.yaml": "",
            "node_modules/.pnpm/node_modules/x": "",
            "node_modules/.pnpm/express@4.18.2/node_modules/express/node_modules/.bin/mime": "#!",
            "node_modules/.bin/express": "#!/bin/sh\nexport NODE_PATH=/home/me\n",
        },
        {
            "node_modules": "node_modules",
            "node_modules/.pnpm/express@4.18.2": "express",
            "node_modules/.pnpm/@babel+core@7.0.0": "@babel/core",
            "node_modules/.pnpm/react-dom@18.2.0_react@18.2.0": "react-dom",
            "node_modules/.bin/express": "records",
        },
    ),
    "pip --target": (
        {
            "deps/flask/__init__.py": "",
            "deps/flask-3.0.dist-info/RECORD": "flask/__init__.py,,\n",
            "deps/mine.py": "",
            "deps/own/__init__.py": "",
            "__pypackages__/3.12/lib/six.py": "",
            "__pypackages__/3.12/lib/six-1.16.dist-info/METADATA": "",
            "__pypackages__/3.12/lib/six-1.16.dist-info/top_level.txt": "six\n",
        },
        {
            "deps/flask": "flask",
            "__pypackages__/3.12/lib/six.py": "six",
            "deps/flask-3.0.dist-info/RECORD": "records",
        },
    ),
    "gems and composer of any name": (
        {
            "gem-home/gems/rack-3.0.8/x.rb": "",
            "gem-home/specifications/rack-3.0.8.gemspec": "",
            "lib/php/autoload.php": "",
            "lib/php/composer/installed.php": "",
            "lib/php/monolog/monolog/x.php": "",
        },
        {
            "gem-home/gems/rack-3.0.8": "rack",
            "lib/php/monolog/monolog": "monolog/monolog",
            "lib/php/autoload.php": "records",
        },
    ),
    "jars": (
        {
            "BOOT-INF/classes/a/B.class": "",
            "BOOT-INF/lib/guava-33.0.0-jre.jar": "",
            "BOOT-INF/lib/log4j-to-slf4j-2.21.1.jar": "",
            "target/app.jar": "one alone is an app",
            "target/app.pom": "",
            "target/dependency/a-1.jar": "",
            "target/dependency/b.jar": "",
        },
        {
            "BOOT-INF/lib/guava-33.0.0-jre.jar": "guava",
            "BOOT-INF/lib/log4j-to-slf4j-2.21.1.jar": "log4j-to-slf4j",
            "target/dependency/a-1.jar": "a",
            "target/dependency/b.jar": "b",
        },
    ),
    "Erlang": (
        {
            "_build/prod/lib/cowboy/ebin/cowboy.app": "",
            "_build/prod/rel/shop/bin/shop": "",
            "_build/prod/rel/shop/lib/shop-0.1.0/ebin/shop.app": "",
            "_build/prod/rel/shop/lib/stdlib-5.2/ebin/stdlib.app": "",
        },
        {
            "_build/prod/lib/cowboy": "cowboy",
            "_build/prod/rel/shop/lib/stdlib-5.2": "stdlib",
        },
    ),
    ".NET": (
        {
            "App.dll": "",
            "App": "",
            "App.deps.json": json.dumps(
                {
                    "runtimeTarget": {"name": ".NETCoreApp,Version=v8.0/linux-x64"},
                    "targets": {
                        ".NETCoreApp,Version=v8.0/linux-x64": {
                            "App/1.0.0": {"runtime": {"App.dll": {}}},
                            "Npgsql/8.0.1": {
                                "runtime": {"lib/net8.0/Npgsql.dll": {}},
                                "resources": {"lib/net8.0/de/N.resources.dll": {"locale": "de"}},
                            },
                            "Sqlite.Native/2.1": {
                                "runtimeTargets": {"runtimes/linux-x64/native/e.so": {}},
                                "native": {"runtimes/linux-x64/native/gone.so": {}},
                            },
                            "runtimepack.App/8.0.0": {"runtime": {"System.Linq.dll": {}}},
                        }
                    },
                    "libraries": {
                        "App/1.0.0": {"type": "project"},
                        "Npgsql/8.0.1": {"type": "package"},
                        "Sqlite.Native/2.1": {"type": "package"},
                        "runtimepack.App/8.0.0": {"type": "runtimepack"},
                    },
                }
            ),
            "Other.deps.json": "[not json",
            "Npgsql.dll": "",
            "de/N.resources.dll": "",
            "de/App.resources.dll": "",
            "runtimes/linux-x64/native/e.so": "",
            "System.Linq.dll": "",
        },
        {
            "Npgsql.dll": "Npgsql",
            "runtimes/linux-x64/native/e.so": "Sqlite.Native",
            "System.Linq.dll": "runtimepack.App",
        },
    ),
    "others": (
        {
            "bower_components/jquery/x.js": "",
            "jspm_packages/npm/lodash@4.1.0/x.js": "",
            "jspm_packages/system.js": "",
            "dist-packages/six.py": "",
            "venv/x.py": "a package called venv",
        },
        {
            "bower_components": "bower_components",
            "bower_components/jquery": "jquery",
            "jspm_packages": "jspm_packages",
            "jspm_packages/npm/lodash@4.1.0": "lodash",
            "dist-packages": "dist-packages",
        },
    ),
}


@pytest.mark.parametrize(
    ("packages", "records"),
    [
        # Composer 2.5.5 ends the names of classes with 128 random bits, even with a lock.
        (
            ("composer/autoload_psr4.php", "composer/platform_check.php", "a/b/x.php"),
            (
                "autoload.php",
                "composer/autoload_real.php",
                "composer/autoload_static.php",
                "composer/installed.php",
            ),
        ),
        # RubyGems 3.3.15 names `siteconf20261129-25369-l3diuj.rb` and `.gem.20261129-25369-s0gm11`.
        (
            ("bundle/ruby/3.1.0/gems/rack-3/Makefile", "bundle/ruby/3.1.0/gems/bcrypt-3/ext/x.c"),
            (
                "bundle/ruby/3.1.0/extensions/x86_64-linux/3.1.0/bcrypt-3/gem_make.out",
                "bundle/ruby/3.1.0/extensions/x86_64-linux/3.1.0/bcrypt-3/mkmf.log",
                "bundle/ruby/3.1.0/gems/bcrypt-3/ext/mri/Makefile",
            ),
        ),
    ],
    ids=["Composer", "Bundler"],
)
def test_records_of_composer_and_bundler(
    write: Write, packages: tuple[str, ...], records: tuple[str, ...]
) -> None:
    closure = take(write({f"vendor/{path}": path for path in packages + records})).closure
    (item,) = (item for item in closure.items if item.role is Role.RECORD)
    files = [os.fsdecode(entry.path) for entry in item.entries() if entry.kind is Kind.FILE]
    assert sorted(files) == [f"app/vendor/{path}" for path in records]


@pytest.mark.parametrize("manager", FOLDERS)
def test_the_folders_of_other_package_managers(write: Write, manager: str) -> None:
    files, expected = FOLDERS[manager]
    closure = take(write(files)).closure
    assert {
        item.path.removeprefix("/app/"): item.name for item in closure.items if item.path != "/app"
    } == expected
    listed = [path for held in paths(closure).values() for path in held]
    assert len(listed) == len(set(listed))
    assert {f"app/{path}" for path in files} <= set(listed)


def compiled(word: int) -> bytes:
    """A `.pyc` file of that flags word (PEP 552)."""
    return b"\xa7\r\r\n" + word.to_bytes(4, "little") + bytes(8) + b"code"


def test_compiled_python_that_every_install_makes_anew_is_left_out(write: Write) -> None:
    site = ".venv/lib/python3.11/site-packages"
    files = {
        f"{site}/a/__pycache__/x.cpython-311.pyc": compiled(0),
        f"{site}/b/__pycache__/by_time.pyc": compiled(0),
        f"{site}/b/__pycache__/by_hash.pyc": compiled(3),
        f"{site}/b/__pycache__/unchecked.pyc": compiled(1),
        f"{site}/b/__pycache__/short.pyc": b"\xa7\r\r\n",
        f"{site}/c/sourceless.pyc": compiled(0),
        "__pycache__/main.cpython-311.pyc": compiled(0),
        "__pycache__.pyc": compiled(0),
        "main.py": "",
    }
    found = take(write(files))
    listed = {path.removeprefix("app/") for held in paths(found.closure).values() for path in held}
    assert {path for path in listed if path.endswith(".pyc")} == {
        f"{site}/b/__pycache__/by_hash.pyc",
        f"{site}/b/__pycache__/unchecked.pyc",
        f"{site}/b/__pycache__/short.pyc",
        f"{site}/c/sourceless.pyc",
        "__pycache__.pyc",
    }
    assert f"{site}/a" in listed
    assert not listed & {f"{site}/a/__pycache__", "__pycache__"}
    (note,) = notes(found)
    assert note.startswith("3 compiled Python files left out")
    assert "!*.pyc" in note


def test_compiled_python_stays_where_the_user_wants_it(write: Write) -> None:
    root = write({"__pycache__/main.cpython-311.pyc": compiled(0)})
    whole = take(root, root_dir="/")
    assert paths(whole.closure)["/"] == ["__pycache__", "__pycache__/main.cpython-311.pyc"]
    assert notes(whole) == []
    wanted = take(write({".regpushignore": "!*.pyc\n"}))
    assert "app/__pycache__/main.cpython-311.pyc" in paths(wanted.closure)["/app"]
    assert notes(wanted) == []


def test_what_is_left_out(write: Write) -> None:
    root = write(
        APP
        | {
            ".git/config": "",
            ".git/modules/x": "",
            "vendored/.git": "gitdir: elsewhere",
            "node_modules/express/.git/HEAD": "",
            ".gitignore": "",
            ".dockerignore": "node_modules",
            ".regpushignore": "# comment\n*.log\n!kept.log\n/build/\nnode_modules/@babel/\n",
            "a.log": "",
            "lib/b.log": "",
            "kept.log": "",
            "build/out": "",
            "lib/build/in": "",
        }
    )
    found = take(root)
    held = paths(found.closure)
    assert held["/app"] == [
        "app", "app/.dockerignore", "app/.gitignore", "app/kept.log", "app/lib", "app/lib/build",
        "app/lib/build/in", "app/lib/util.py", "app/main.py", "app/vendored", "app/web",
    ]  # fmt: skip
    assert "/app/node_modules/@babel/core" not in held
    assert "app/node_modules/@babel" not in held["/app/node_modules"]
    assert "app/node_modules/express/.git" not in held["/app/node_modules/express"]
    assert sorted(notes(found)) == [
        ".dockerignore has no effect; list files to leave out in .regpushignore",
        ".git is left out",
    ]


def test_a_whole_dependency_folder_can_be_left_out(write: Write) -> None:
    root = write(APP | {".regpushignore": "node_modules\n"})
    assert list(paths(take(root).closure)) == ["/app"]


def doubts(found: Resolved) -> list[str]:
    return [event.message for event in found.events if isinstance(event, InputWarned)]


def test_patterns_that_do_nothing_or_leave_nothing_are_doubted(write: Write) -> None:
    root = write({".regpushignore": b"ok\n!\n[a\xff\n", "a": ""})
    (file,) = (os.fspath(path) for path in root.glob(".regpushignore"))
    assert doubts(take(root)) == [
        f"{file}: '!' matches nothing: it names nothing",
        f"{file}: '[a\\xff' matches nothing: its bracket is not closed",
    ]
    (root / ".regpushignore").write_text("*\n!*/\n")
    (root / "d").mkdir()
    assert doubts(take(root)) == [
        f"{file} leaves out every file: the image contains only the directory's folders"
    ]
    (root / ".regpushignore").write_text("*\n!a\n")
    assert doubts(take(root)) == []


def test_an_ignore_file_may_be_a_link_within_the_directory(write: Write) -> None:
    root = write({"conf/ignore": "*.log\n", "a.log": "", "main.py": ""})
    (root / ".regpushignore").symlink_to("conf/ignore")
    assert paths(take(root).closure) == {
        "/app": ["app", "app/conf", "app/conf/ignore", "app/main.py"]
    }


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "is a directory, not a file of patterns"),
        (lambda path: path.symlink_to("."), "is a link that leads out of the directory"),
        (lambda path: path.symlink_to("d"), "is a directory, not a file of patterns"),
        (lambda path: path.symlink_to("/etc/hostname"), "is a link that leads out"),
        (lambda path: path.symlink_to("nowhere"), "is a link that leads to no file"),
        (lambda path: path.symlink_to(path.name), "is a link that leads to no file"),
        (lambda path: path.write_bytes(b"#" * (1 << 20) + b"\n"), "is larger than 1 MiB"),
    ],
)
def test_an_ignore_file_that_is_none(
    write: Write, make: Callable[[Path], None], words: str
) -> None:
    root = write({"main.py": "", "d/x": ""})
    make(root / ".regpushignore")
    with pytest.raises(UsageError, match=rf"\.regpushignore {words}"):
        take(root)


def test_devices_of_a_root_are_left_out(write: Write) -> None:
    root = write({"dev/x": "", "etc/os-release": ""})
    os.mkfifo(root / "dev/initctl")
    found = take(root, root_dir="/")
    assert paths(found.closure) == {"/": ["dev", "etc", "etc/os-release"]}
    assert notes(found) == ["the content of /dev is left out"]
    assert notes(take(root)) == ["sockets and FIFOs are left out: dev/initctl"]


def test_devices_are_refused_by_name(write: Write) -> None:
    needs_root()
    root = write({"x": ""})
    try:
        os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except OSError:
        pytest.skip("no devices can be made here")
    with pytest.raises(SourceError, match=r"app/null: a device cannot .*; list it in \.regpushig"):
        take(root)


def test_hard_links_are_kept_inside_an_item(write: Write) -> None:
    root = write({"b": "same", "vendor/x/y": "other"})
    (root / "a").hardlink_to(root / "b")
    (root / "vendor/x/z").hardlink_to(root / "vendor/x/y")
    (root / "c").hardlink_to(root / "vendor/x/y")
    found = take(root, preserve=True)
    own = {entry.path: entry for entry in found.closure["/app"].entries()}
    assert (own[b"app/b"].kind, own[b"app/b"].link) == (Kind.HARDLINK, b"app/a")
    assert own[b"app/c"].kind is Kind.FILE
    (told,) = notes(found)
    assert told == (
        "/app/c and /app/vendor/x/y are hard links of one file here, and become separate files, "
        "because they belong to different packages"
    )
    plain = take(root)
    assert notes(plain) == []
    assert {entry.kind for entry in plain.closure["/app"].entries()} == {Kind.DIRECTORY, Kind.FILE}


def test_odd_names_and_links_survive(write: Write) -> None:
    root = write({"päth/name\nline": "x", "plain": ""})
    long = root / "/".join(["d" * 100] * 3)
    long.mkdir(parents=True)
    (root / "dangling").symlink_to("/nowhere")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).write_text("")
    (entries,) = [list(item.entries()) for item in take(root).closure.items]
    assert b"app/\xff" in [entry.path for entry in entries]
    link = next(entry for entry in entries if entry.path == b"app/dangling")
    assert link == Entry(path=b"app/dangling", kind=Kind.SYMLINK, mode=0o777, link=b"/nowhere")
    assert entries == sorted(entries, key=lambda entry: entry.path)


def test_sockets_and_fifos_are_left_out_with_a_note(write: Write) -> None:
    root = write({"x": "", "node_modules/left-pad/index.js": ""})
    before = take(root).closure
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "s"))
        for path in ("node_modules/left-pad/fifo", "a", "z"):
            os.mkfifo(root / path)
        found = take(root)
        at_root = take(root, root_dir="/")
    assert found.closure == before
    for one in (found, at_root):
        assert notes(one) == [
            "sockets and FIFOs are left out: a, node_modules/left-pad/fifo, s and 1 more"
        ]
    assert paths(at_root.closure)["/"] == ["x"]


def test_files_that_more_users_may_read_in_the_image_are_named(write: Write) -> None:
    modes = {"b": 0o640, "a/key": 0o600, "a/tool": 0o700, "c": 0o644, "shut": 0o000, "x": 0o604}
    root = write(dict.fromkeys(modes, ""))
    (root / "a").chmod(0o700)
    (root / "link").symlink_to("b")
    for path, mode in modes.items():
        (root / path).chmod(mode)
    (told,) = notes(take(root))
    assert told == (
        "3 files become readable by all users in the image, such as a/key (mode 0600 on "
        "this machine); --preserve keeps modes and owners"
    )
    assert notes(take(root, preserve=True)) == []
    kept = (Rule.chmod("a/*=0600"), Rule.chmod("/app/b=0440"))
    assert notes(take(root, rules=kept)) == []
    (told,) = notes(take(root, rules=kept[:1]))
    assert told.startswith("1 file becomes readable by all users in the image, such as b (mode ")


def test_cancelling_stops_between_files(write: Write) -> None:
    root = write({f"d{n}/f": "x" for n in range(10)})
    cancel = Cancellation()
    cancel.cancel()
    before = threading.active_count()
    with pytest.raises(CancelledError):
        resolve([str(root)], SourceOptions(), (), workshop=Workshop(ignore, cancel))
    assert threading.active_count() == before
