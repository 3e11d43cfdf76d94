"""Nix's front door: flakes, expressions and single paths of binary caches, by the real nix."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import blocks
from tests.flow.test_push_directory import has_tag
from tests.flow.test_push_store import same_closure
from tests.images import unpack
from tests.patience import HANG_S
from tests.program import environment, program_on_path, regpush
from tests.registry.parts import real_part
from tests.stores import NixStore

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="nix-build here needs root")

FLAKE = """
{ outputs = { self }: let
    mk = name: deps: script: derivation {
      inherit name deps; system = "x86_64-linux"; builder = "/bin/sh"; PATH = "/usr/bin:/bin";
      args = [ "-ec" script ];
    };
    lib = mk "lib-1.0" [] "mkdir -p $out/lib; echo lib > $out/lib/lib.txt";
    app = mk "app-1.0" [ lib ] ''
      mkdir -p $out/bin $out/etc; echo ${lib} > $out/bin/app; echo app > $out/etc/app.conf
    '';
    tool = mk "tool-2.0" [] ''
      mkdir -p $out/bin $out/etc; echo tool > $out/bin/tool; echo tool > $out/etc/tool.conf
    '';
    several = derivation {
      name = "several-1.0"; outputs = [ "out" "dev" ]; system = "x86_64-linux";
      builder = "/bin/sh"; args = [ "-ec" "echo out > $out; echo dev > $dev" ];
    };
    # Their outputs are sorted by name where Nix prints them: man comes before out.
    outputs = names: meta: derivation {
      name = "prog-1.0"; outputs = names; system = "x86_64-linux"; PATH = "/usr/bin:/bin";
      builder = "/bin/sh"; args = [ "-ec" ''
        for one in $outputs; do
          eval "path=\\$$one"; mkdir -p $path/bin; echo $one > $path/bin/prog
        done
      '' ];
    } // { inherit meta; };
    in { packages.x86_64-linux = {
      inherit app tool several;
      manual = outputs [ "out" "man" ] {
        outputsToInstall = [ "out" "man" ]; mainProgram = "prog";
      };
      split = outputs [ "bin" "dev" "man" ] {
        outputsToInstall = [ "man" "bin" ]; mainProgram = "prog";
      };
      mark = builtins.getEnv "REGPUSH_MARK";
      marked = mk "marked-${builtins.getEnv "REGPUSH_MARK"}" [] "mkdir $out";
      default = app;
      broken = mk "broken-1.0" [] "echo this is why >&2; exit 3";
      clash = mk "clash-1.0" [] "mkdir -p $out/bin; echo other > $out/bin/app";
      slow = mk "slow-1.0" [] "echo begun; sleep 300";
    };
    # As cross-built packages are: for another system, by a builder of this one.
    packages.aarch64-linux.app = mk "app-1.0" [ lib ] "mkdir $out; echo arm > $out/arm";
    };
}
"""


FLAKES = {"NIX_CONFIG": "substituters =\nexperimental-features = nix-command flakes"}


def flakes(root: Path) -> NixStore:
    store = NixStore(root)
    (root / "work/flake").mkdir(parents=True)
    (root / "work/flake/flake.nix").write_text(FLAKE)
    store.environment |= {"HOME": str(root)}
    return store


@pytest.fixture(scope="module")
def nix(tmp_path_factory) -> NixStore:
    real_part("nix")
    return flakes(tmp_path_factory.mktemp("nix") / "nix")


@pytest.fixture(scope="module")
def gnu(tmp_path_factory) -> NixStore:
    """A store of Nix that is called as Guix's is."""
    real_part("nix")
    return flakes(tmp_path_factory.mktemp("gnu") / "gnu")


def pushed(nix, *targets, to, flags=(), env=None, **more):
    """A push in the flake's directory."""
    words = [*targets, "--to", to, "--format", "json", "--no-cache", *flags]
    environ = {**nix.environment, **(env or {})}
    return regpush(*words, env=environ, **{"cwd": nix.root / "work/flake", **more})


def items_of(done) -> list[str]:
    (image,) = done.report["images"]
    return [item for layer in image["layers"] for item in layer["items"] if item.startswith("/")]


def names_of(done) -> list[str]:
    return sorted(Path(item).name[33:] for item in items_of(done))


def path_of(done, name) -> str:
    (path,) = [item for item in items_of(done) if item.endswith(name)]
    return path


def config_of(reference) -> dict:
    seen = [
        real_part("skopeo"),
        "inspect",
        "--tls-verify=false",
        "--config",
        f"docker://{reference}",
    ]
    done = subprocess.run(seen, check=True, capture_output=True)
    return json.loads(done.stdout)["config"]


@pytest.mark.parametrize("store", ["nix", "gnu"])
def test_an_attribute_of_a_flake_is_built_and_pushed(
    docker_registry, repository, store, request, tmp_path
):
    nix = request.getfixturevalue(store)
    to = f"{docker_registry.host}/{repository}"
    done = pushed(nix, "nix:.#app", to=to).ok()
    assert "building " in done.stderr
    assert names_of(done) == ["app-1.0", "lib-1.0"]
    same_closure(f"{to}:latest", items_of(done), tmp_path / "out")
    again = pushed(nix, "nix:", to=to).ok()
    assert "building " not in again.stderr
    assert again.report["changed"] is False


def test_several_installables_make_one_image(docker_registry, repository, nix):
    to = f"{docker_registry.host}/{repository}"
    one = pushed(nix, "nix:.#app", "nix:.#tool", to=f"{to}:a").ok()
    assert names_of(one) == ["app-1.0", "lib-1.0", "tool-2.0"]
    two = pushed(nix, "nix:.#app .#tool", to=f"{to}:b").ok()
    assert two.report["digest"] == one.report["digest"]
    paths = [path_of(one, name) for name in ("app-1.0", "tool-2.0")]
    three = pushed(nix, *paths, to=f"{to}:c").ok()
    assert three.report["digest"] == one.report["digest"]
    pushed(nix, "nix:.#app", ".", to=f"{to}:d").failed(2, ". cannot be combined")


def test_all_outputs_that_an_installable_means(docker_registry, repository, nix):
    to = f"{docker_registry.host}/{repository}"
    done = pushed(nix, "nix:.#several", to=to).ok()
    expected = nix.run("nix", "build", "--no-link", "--json", f"{nix.root}/work/flake#several",
                       "--extra-experimental-features", "flakes")  # fmt: skip
    (built,) = json.loads(expected)
    assert sorted(items_of(done)) == sorted(built["outputs"].values())


def test_an_expression_and_an_attribute_of_it(docker_registry, repository, nix, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "default.nix").write_text(
        f'{{ app = import {nix.root}/app.nix {{ version = "7"; }}; }}'
    )
    to = f"{docker_registry.host}/{repository}"
    for target in ("nix:project#app", "nix:./project/default.nix#app"):
        done = pushed(nix, target, to=to, cwd=tmp_path).ok()
        assert "app-7" in names_of(done)
        assert sorted(items_of(done)) == sorted(nix.closure(path_of(done, "app-7")))
    pushed(nix, "nix:project#nothing", to=to, cwd=tmp_path).failed(9, "nothing")
    wrong = pushed(nix, "nix:./default.nix -A app", to=to, cwd=project)
    wrong.failed(2, "nix:./default.nix#app")


def test_flakes_are_preferred_only_where_they_are_enabled(
    docker_registry, repository, nix, tmp_path
):
    (tmp_path / "flake.nix").write_text(FLAKE)
    (tmp_path / "default.nix").write_text(f'import {nix.root}/app.nix {{ version = "8"; }}')
    to = f"{docker_registry.host}/{repository}"
    without = pushed(nix, "nix:.", to=to, cwd=tmp_path).ok()
    assert "app-8" in names_of(without)
    with_flakes = pushed(nix, "nix:.", to=to, cwd=tmp_path, env=FLAKES).ok()
    assert "app-1.0" in names_of(with_flakes)


def test_a_build_that_fails(docker_registry, repository, nix):
    to = f"{docker_registry.host}/{repository}"
    done = pushed(nix, "nix:.#broken", to=to).failed(9, "nix-store failed: ", "broken-1.0.drv")
    assert "> this is why" in done.stderr
    pushed(nix, "nix:.#nothing", to=to).failed(9, "nothing")
    assert not has_tag(docker_registry, repository, "latest")


def test_the_platform_is_what_nix_builds_for(docker_registry, repository, nix):
    to = f"{docker_registry.host}/{repository}"
    other = ["--platform", "linux/arm64"]
    pushed(nix, "nix:.#tool", to=to, flags=other).failed(9, "packages.aarch64-linux.tool")
    done = pushed(nix, "nix:.#app", to=to, flags=["--platform", "linux/amd64", *other]).ok()
    apps = {
        image["platform"]: path
        for image in done.report["images"]
        for layer in image["layers"]
        for path in layer["items"]
        if path.endswith("app-1.0")
    }
    assert {platform: sorted(os.listdir(path)) for platform, path in apps.items()} == {
        "linux/amd64": ["bin", "etc"],
        "linux/arm64": ["arm"],
    }
    expression = f"nix:{nix.root}/app.nix"
    done = pushed(nix, expression, to=to, flags=["--system", "riscv64-linux"]).failed(9)
    assert "a 'riscv64-linux' with features {} is required" in done.stderr


def test_a_directory_is_pushed_as_it_is_with_a_hint(docker_registry, repository, nix):
    to = f"{docker_registry.host}/{repository}"
    done = pushed(nix, ".", to=to).ok()
    assert items_of(done) == ["/app"]
    assert "name nix:." in done.stderr


def test_a_derivation_is_refused_with_the_command_that_builds_it(docker_registry, repository, nix):
    to = f"{docker_registry.host}/{repository}"
    out = nix.build("derived")
    deriver = nix.run("nix-store", "--query", "--deriver", str(out))
    done = pushed(nix, deriver, to=to).failed(2, "is a derivation")
    command = done.stderr[done.stderr.index("$(") + 2 : done.stderr.rindex(")")]
    assert nix.run(*command.split()).split() == [str(out)]


def test_ctrl_c_ends_the_build(docker_registry, repository, nix):
    command = [sys.executable, "-m", "regpush", "nix:.#slow", "--to",
               f"{docker_registry.host}/{repository}"]  # fmt: skip
    scratch = nix.root / "scratch"
    scratch.mkdir()
    env = environment(**nix.environment, TMPDIR=str(scratch))
    process = subprocess.Popen(
        command, cwd=nix.root / "work/flake", env=env, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if line.startswith("building "):
            break
    process.send_signal(signal.SIGINT)
    # The build takes longer.
    _, said = process.communicate(timeout=HANG_S)
    assert process.returncode == 130, said
    assert not [name for name in os.listdir(scratch) if name.startswith("regpush-")]


LINKED = ["/bin/app", "/bin/tool", "/etc/app.conf", "/etc/tool.conf"]


def test_trees_are_linked_into_the_root(docker_registry, repository, nix, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    tool = path_of(pushed(nix, "nix:.#tool", to=to).ok(), "tool-2.0")
    roots = ["--link-root", ".", "--link-root", tool]
    done = pushed(nix, "nix:.#app", "nix:.#tool", to=to, flags=roots).ok()
    root = unpack(f"{to}:latest", tmp_path / "out")
    for path in LINKED:
        link = root / path.lstrip("/")
        assert os.readlink(link) == path_of(done, "app-1.0" if "app" in path else "tool-2.0") + path
    assert (root / "etc/passwd").is_file()
    assert (root / "bin").is_dir()
    assert not (root / "bin").is_symlink()
    only = pushed(nix, "nix:.#app", to=to, flags=["--link-root", "bin"]).ok()
    root = unpack(f"{to}:latest", tmp_path / "only")
    assert os.readlink(root / "app") == path_of(only, "app-1.0") + "/bin/app"
    assert not (root / "bin").exists()


def test_trees_that_do_not_go_together(docker_registry, repository, nix):
    to = f"{docker_registry.host}/{repository}"
    both = pushed(nix, "nix:.#app", "nix:.#clash", to=to).ok()
    app, clash = (path_of(both, name) for name in ("app-1.0", "clash-1.0"))
    roots = ["--link-root", app, "--link-root", clash]
    done = pushed(nix, app, clash, to=to, flags=roots)
    done.failed(2, f"{app}/bin/app", f"{clash}/bin/app", "both be linked at /bin/app")
    pushed(nix, app, to=to, flags=["--link-root", clash]).failed(
        2, "not a directory in the closure"
    )
    pushed(nix, ".", to=to, flags=["--link-root", "."]).failed(
        2, "--link-root is only for store paths"
    )
    mine = [*roots, "-S", "/bin/app=bin/app"]
    pushed(nix, app, clash, to=to, flags=mine).failed(2, "both be linked at")


def test_the_commands_of_the_readme(docker_registry, nix, tmp_path):
    """Blocks marked `localhost-nix`, in a directory with a flake and a default.nix."""
    (tmp_path / "flake.nix").write_text(FLAKE)
    (tmp_path / "default.nix").write_text(f'import {nix.root}/app.nix {{ version = "9"; }}')
    env = environment(**nix.environment | FLAKES)
    env["PATH"] = program_on_path(tmp_path / "bin", env["PATH"])
    found = blocks("localhost-nix")
    commands = [line[2:] for block in found for line in block.splitlines()]
    assert commands
    for command in commands:
        here = command.replace("localhost:5000", docker_registry.host)
        words = ["bash", "-euo", "pipefail", "-c", here]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)


def test_images_of_nix_have_no_path_of_their_own(docker_registry, repository, nix):
    """As nixpkgs' tools make them: runtimes look in /bin, where `--link-root` puts programs."""
    to = f"{docker_registry.host}/{repository}"
    pushed(nix, "nix:.#app", to=to).ok()
    assert "Env" not in config_of(f"{to}:latest")


@pytest.mark.parametrize("attribute", ["manual", "split"])
def test_the_main_output_is_the_target(docker_registry, repository, nix, attribute):
    """`out`, else the first of `meta.outputsToInstall`, of those that this Nix installs."""
    to = f"{docker_registry.host}/{repository}"
    printed = nix.run("nix", "build", "--no-link", "--json", f"{nix.root}/work/flake#{attribute}",
                      "--extra-experimental-features", "flakes")  # fmt: skip
    outputs = json.loads(printed)[0]["outputs"]
    name = next(one for one in ("out", "man", "bin") if one in outputs)
    main = Path(outputs[name]).name[33:]
    done = pushed(nix, f"nix:.#{attribute}", to=to, flags=["--entrypoint", "bin/prog"]).ok()
    (program,) = config_of(f"{to}:latest")["Entrypoint"]
    assert program.endswith(f"-{main}/bin/prog"), program
    assert program.removesuffix("/bin/prog") in items_of(done)


def test_outputs_as_nix_build_prints_them(docker_registry, repository, nix):
    to = f"{docker_registry.host}/{repository}"
    out = path_of(pushed(nix, "nix:.#manual", to=to).ok(), "prog-1.0")
    deriver = nix.run("nix-store", "--query", "--deriver", out).strip()
    paths = sorted(nix.run("nix-store", "--realise", deriver).split(), reverse=True)
    manual = next(path for path in paths if path.endswith("-man"))
    pushed(nix, manual, out, to=to, flags=["--entrypoint", "bin/prog"]).ok()
    assert config_of(f"{to}:latest")["Entrypoint"] == [f"{out}/bin/prog"]


def test_the_main_program_is_the_entry_point(docker_registry, repository, nix):
    to = f"{docker_registry.host}/{repository}"
    done = pushed(nix, "nix:.#manual", to=to).ok()
    (out,) = [path for path in items_of(done) if path.endswith("-prog-1.0")]
    assert config_of(f"{to}:latest")["Entrypoint"] == [f"{out}/bin/prog"]
    pushed(nix, "nix:.#manual", to=to, flags=["--cmd", "sh"]).ok()
    assert "Entrypoint" not in config_of(f"{to}:latest")
    split = pushed(nix, "nix:.#split", to=to).ok()
    (program,) = config_of(f"{to}:latest")["Entrypoint"]
    assert program.endswith("-prog-1.0-bin/bin/prog")
    assert split.report["images"]


def test_an_entry_point_that_does_not_exist(docker_registry, repository, nix):
    to = f"{docker_registry.host}/{repository}"
    done = pushed(nix, "nix:.#app", to=to, flags=["--entrypoint", "bin/nothing"])
    done.failed(2, "bin/nothing does not exist in the target", "its bin/ has app")
    done = pushed(nix, "nix:.#marked", to=to, flags=["--impure", "--entrypoint", "bin/x"])
    done.failed(2, "it has no bin/")
    assert not has_tag(docker_registry, repository, "latest")


def test_words_for_nix_are_passed_on(docker_registry, repository, nix, tmp_path):
    to = f"{docker_registry.host}/{repository}"
    mark = {"REGPUSH_MARK": "seen"}
    done = pushed(nix, "nix:.#marked", to=to, flags=["--impure"], env=mark).ok()
    assert names_of(done) == ["marked-seen"]
    (tmp_path / "default.nix").write_text(
        "{ version }: import <appdir/app.nix> { inherit version; }"
    )
    words = ["--argstr", "version", "3", "-I", f"appdir={nix.root}"]
    done = pushed(nix, "nix:.", to=to, cwd=tmp_path, flags=words).ok()
    assert "app-3" in names_of(done)
    words = [*words, "--nix-option", "restrict-eval", "true"]
    pushed(nix, "nix:.", to=to, cwd=tmp_path, flags=words).failed(9, "restricted mode")
    wrong = pushed(nix, "nix:.#tool", to=to, flags=["--nix-option", "--fallback", "x"])
    wrong.failed(2, "--nix-option accepts --impure", "--fallback")


def test_a_store_with_another_root(docker_registry, repository, nix, tmp_path):
    """`nix build --store local?root=…`: paths begin with /nix/store and lie below the root."""
    root = tmp_path / "root"
    env = {"HOME": str(tmp_path), "NIX_CONFIG": FLAKES["NIX_CONFIG"], "PATH": os.environ["PATH"]}
    (tmp_path / "file").write_text("hello\n")
    add = ["nix", "store", "add-path", "--store", f"local?root={root}", tmp_path / "file"]
    done = subprocess.run(add, env=env, check=True, capture_output=True, text=True)
    path = done.stdout.strip()
    assert path.startswith("/nix/store/")
    assert not os.path.exists(path)
    to = f"{docker_registry.host}/{repository}"
    flags = ["--to", to, "--format", "json"]
    for how in ({"NIX_REMOTE": f"local?root={root}"}, {"NIX_REMOTE": str(root)}):
        pushed = regpush(path, *flags, env={"HOME": str(tmp_path), **how}).ok()
        assert items_of(pushed) == [path]
    named = regpush(path, *flags, "--store", f"local?root={root}").ok()
    assert named.report["digest"] == pushed.report["digest"]
    (tmp_path / ".local/share/nix").mkdir(parents=True)
    (tmp_path / ".local/share/nix/root").symlink_to(root)
    regpush(path, *flags, env={"HOME": str(tmp_path)}).ok()
