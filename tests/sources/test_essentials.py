"""What an image of a store gets besides its closure, by the names in it alone."""

import json
import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from regpush.closure import Closure, Identity, Item, Role
from regpush.digest import Digest
from regpush.entry import Kind
from regpush.errors import UsageError
from regpush.options import ImageOptions
from regpush.sources.links import customise
from tests.images import unpack
from tests.program import push, regpush
from tests.registry.parts import real_part
from tests.stores import NixStore, removed

HASH = "0123456789abcdfghijklmnpqrsvwxyz"


def item(name, *references, digit="0", identity=None):
    path = f"/gnu/store/{digit}{HASH[1:]}-{name}"
    return Item(
        path=path,
        name=name,
        origin=name,
        identity=identity or Identity.nar(Digest.of(name.encode())),
        size=1,
        references=tuple(one.path for one in references),
        entries=lambda: pytest.fail(f"{name} was opened"),
    )


def customised(root, *others, **options):
    closure = Closure.build((root.path,), (root, *others))
    return customise(closure, ImageOptions(**options))


def entries(made):
    (generated,) = [one for one in made.closure.items if one.role is Role.GENERATED]
    return {one.path.decode(): one for one in generated.entries()}


def links(made):
    return {
        path: entry.link.decode()
        for path, entry in entries(made).items()
        if entry.kind is Kind.SYMLINK
    }


@pytest.mark.parametrize(
    ("name", "linked"),
    [
        ("bash-5.2p37", "bin/sh -> bin/bash"),
        ("bash-5.2-p26", "bin/sh -> bin/bash"),
        ("bash-interactive-5.2p37", "bin/sh -> bin/bash"),
        ("bash-minimal-5.1.16", "bin/sh -> bin/bash"),
        ("bash-static-5.1.16", "bin/sh -> bin/bash"),
        ("bash-aarch64-unknown-linux-gnu-5.2p37", "bin/sh -> bin/bash"),
        ("bash-static-x86_64-unknown-linux-musl-5.2p37", "bin/sh -> bin/bash"),
        ("dash-0.5.12", "bin/sh -> bin/dash"),
        ("coreutils-9.5", "usr/bin/env -> bin/env"),
        ("coreutils-minimal-9.1", "usr/bin/env -> bin/env"),
        ("busybox-1.36.1", "bin/sh -> bin/busybox, usr/bin/env -> bin/busybox"),
        ("nss-cacert-3.98", "etc/ssl/certs/ca-bundle.crt -> etc/ssl/certs/ca-bundle.crt, "
         "etc/ssl/certs/ca-certificates.crt -> etc/ssl/certs/ca-bundle.crt"),
        ("ca-certificate-bundle", "etc/ssl/certs/ca-bundle.crt -> etc/ssl/certs/ca-certificates.crt"
         ", etc/ssl/certs/ca-certificates.crt -> etc/ssl/certs/ca-certificates.crt"),
        # Other outputs and other packages have no programs of these names.
        ("bash-5.2p37-man", ""),
        ("coreutils-9.1-debug", ""),
        ("nss-cacert-3.98-unbundled", ""),
        ("nss-certs-3.88.1", ""),
        ("bash-completion-2.11", ""),
        ("dash", ""),
        ("my-bash-5.2", ""),
        ("uutils-coreutils-0.0.27", ""),
    ],
)  # fmt: skip
def test_packages_are_known_by_their_names(name, linked):
    package = item(name)
    found = links(customised(item("app-1", package, digit="1"), package))
    shown = (f"{at} -> {to.removeprefix(package.path + '/')}" for at, to in found.items())
    assert ", ".join(sorted(shown)) == linked


def test_what_is_nearer_to_the_root_is_taken():
    deep, far = item("bash-5.2", digit="2"), item("busybox-1.36.1", digit="3")
    library = item("glibc-2.38", deep, digit="4")
    assert links(customised(item("app-1", library, far), deep, far, library)) == {
        "bin/sh": f"{far.path}/bin/busybox",
        "usr/bin/env": f"{far.path}/bin/busybox",
    }
    assert links(customised(library, deep))["bin/sh"] == f"{deep.path}/bin/bash"
    twin = replace(deep, path=deep.path.replace("/2", "/1"))
    both = item("app-1", deep, twin, digit="9")
    assert links(customised(both, twin, deep))["bin/sh"] == f"{twin.path}/bin/bash"
    shell = item("bash-5.2", digit="5")
    assert links(customised(shell))["bin/sh"] == f"{shell.path}/bin/bash"


def test_an_empty_bundle_is_none(tmp_path):
    """Its NAR hash is known: Guix makes one for profiles without certificates."""
    (tmp_path / "empty").mkdir()
    hashed = [real_part("nix-hash"), "--type", "sha256", str(tmp_path / "empty")]
    digest = subprocess.run(hashed, check=True, capture_output=True, text=True).stdout.strip()
    identity = Identity.nar(Digest("sha256", digest))
    bundle = item("ca-certificate-bundle", identity=identity)
    made = customised(item("profile", bundle, digit="1"), bundle)
    assert links(made) == {}
    assert made.options.env == ()


def test_links_of_the_user_win():
    shell, certificates = item("bash-5.2", digit="2"), item("nss-cacert-3.98", digit="3")
    root = item("profile", shell, certificates)
    made = customised(
        root, shell, certificates,
        symlinks=(("/bin", "bin"), ("/etc/passwd", "/mine"), ("/tmp/x", "/y"), ("/root/z", "/y")),
    )  # fmt: skip
    assert made.skipped == ("/bin/sh", "/etc/passwd")
    assert links(made)["etc/passwd"] == "/mine"
    assert {"tmp", "root", "etc/group", "etc/nsswitch.conf"} < entries(made).keys()
    assert made.options.env == (("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"),)
    made = customised(root, shell, certificates, symlinks=(("/etc", "etc"), ("/tmp", "/var")))
    assert "/etc/group" in made.skipped
    assert "/tmp" in made.skipped
    bundle = f"{certificates.path}/etc/ssl/certs/ca-bundle.crt"
    assert made.options.env == (("SSL_CERT_FILE", bundle),)
    said = (("SSL_CERT_FILE", "/mine"),)
    assert customised(root, shell, certificates, env=said).options.env == said


def test_without_essentials():
    shell = item("bash-5.2")
    made = customised(item("app-1", shell, digit="1"), shell, essentials=False, user="me")
    assert list(entries(made)) == ["tmp"]


def test_a_user_whom_nobody_knows():
    for user in ("", "1000", "1000:1000", "root", "nobody:nobody", "0:root"):
        customised(item("app-1"), user=user)
    for user in ("me", "root:staff", "me:1000"):
        with pytest.raises(UsageError, match="only the users root and nobody"):
            customised(item("app-1"), user=user)
    customised(item("app-1"), user="me", symlinks=(("/etc/passwd", "/mine"),))


def test_a_store_that_lies_where_essentials_would():
    odd = replace(item("app-1"), path=f"/etc/passwd/{HASH}-app-1")
    made = customised(odd)
    assert "etc/passwd" not in entries(made)
    assert "etc/group" in entries(made)
    assert made.skipped == ()


_SYSTEM = """
let
  mk = name: deps: script: derivation {
    inherit name deps; system = builtins.currentSystem; builder = "/bin/sh";
    PATH = "/usr/bin:/bin"; args = [ "-ec" "mkdir -p $out/bin; echo $deps > $out/deps; ${script}" ];
  };
  busybox = mk "busybox-1.36.1" [] "cp BUSYBOX $out/bin/busybox";
  cacert = mk "nss-cacert-3.98" [] ''
    mkdir -p $out/etc/ssl/certs; echo a bundle > $out/etc/ssl/certs/ca-bundle.crt'';
in mk "app-1.0" [ busybox cacert ] ''
  printf '#!/usr/bin/env sh\\nid -un; id -gn; read a < $SSL_CERT_FILE; echo $a\\n' > $out/bin/app
  chmod +x $out/bin/app
''
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """A store with an app, a static shell and certificates."""
    real_part("nix-build")
    busybox = real_part("busybox")
    linked = subprocess.run(["ldd", busybox], capture_output=True, text=True, check=False)
    if "=>" in linked.stdout:
        pytest.skip("busybox is not static; install busybox-static")
    if os.getuid() != 0:
        pytest.skip("nix-build here, and chroot, need root")
    store = NixStore(tmp_path_factory.mktemp("nix"))
    (store.root / "system.nix").write_text(_SYSTEM.replace("BUSYBOX", busybox))
    out = store.run("nix-build", str(store.root / "system.nix"), "--no-out-link")
    return store, Path(out)


def run_app(root, out, user, *env):
    """As a runtime would: by its path, with the user's number and the image's environment."""
    command = [real_part("chroot"), f"--userspec={user}", root, f"{out}/bin/app"]
    variables = dict(one.split("=", 1) for one in ("PATH=/usr/bin:/bin", *env))
    return subprocess.run(command, capture_output=True, text=True, env=variables)


def test_a_program_runs_as_on_any_system(registry, repository, system, tmp_path):
    store, out = system
    to = f"{registry.host}/{repository}"
    push(out, to, "--user", "nobody", env=store.environment).ok()
    root = unpack(f"{to}:latest", tmp_path / "out")
    seen = [real_part("skopeo"), "inspect", "--tls-verify=false", "--config", f"docker://{to}"]
    config = json.loads(subprocess.run(seen, check=True, capture_output=True).stdout)["config"]
    assert config["Env"] == ["SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"]
    done = run_app(root, out, "65534:65534", *config["Env"])
    assert (done.stdout, done.stderr) == ("nobody\nnobody\na bundle\n", "")
    done = run_app(root, out, "0:0", *config["Env"])
    assert (done.stdout, done.stderr) == ("root\nroot\na bundle\n", "")
    assert stat.S_IMODE((root / "root").stat().st_mode) == 0o700
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777


def test_the_image_is_the_same_without_the_items(docker_registry, repository, system, tmp_path):
    """As on a runner that never had them, and by a closure file."""
    store, out = system
    to = f"{docker_registry.host}/{repository}"
    first = push(out, f"{to}:a", "--platform", "linux/amd64", env=store.environment).ok()
    graph = tmp_path / "graph.json"
    graph.write_text(store.run("nix", "path-info", "-r", "--json", str(out)))
    away = store.root / "away"
    store.store.rename(away)
    try:
        store.store.mkdir()
        for target in (f"store:{out}", graph):
            again = push(target, f"{to}:b", "--platform", "linux/amd64", env=store.environment)
            assert again.ok().report["digest"] == first.report["digest"]
            assert set(again.actions) == {"reused"}
    finally:
        removed([str(store.store)], store.root)
        away.rename(store.store)


def test_what_was_skipped_is_said(docker_registry, repository, system, tmp_path):
    store, out = system
    to = f"{docker_registry.host}/{repository}"
    done = push(out, to, "-S", "/bin=bin", env=store.environment).ok()
    assert "--symlink replaces the default /bin/sh" in done.stderr
    push(out, f"{to}:bare", "--no-essentials", env=store.environment).ok()
    root = unpack(f"{to}:bare", tmp_path / "out")
    assert sorted(path.name for path in root.iterdir()) == sorted({"tmp", out.parts[1]})
    failed = regpush(out, "--to", to, "--user", "me", env=store.environment)
    failed.failed(2, "--user me", "1000:1000")
