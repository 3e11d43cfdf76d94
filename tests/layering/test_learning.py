"""Pushes that learn, into real registries: each from an empty home, with nothing but the image."""

import json
import random
import subprocess
from itertools import pairwise

import pytest

from regpush.commands import simulate
from regpush.commands.history import History
from tests.flow.test_push_directory import write
from tests.layering.pushes import plans, ratio, releases, with_new_versions
from tests.layering.test_auto import sample
from tests.made_up import MadeUpStore, history
from tests.program import push, regpush
from tests.registry.api import MANIFEST_TYPE, Api

AUTO = ["--layers", "auto", "--max-layers", "20"]


@pytest.fixture
def made_up(tmp_path):
    return MadeUpStore(tmp_path / "made-up", scale=100)


def config(to: str) -> dict:
    """The config of an image, as another program reads it."""
    command = ["skopeo", "inspect", "--tls-verify=false", "--raw", "--config", f"docker://{to}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def sent(outcome) -> int:
    """Bytes of the layers that a push sent."""
    layers = outcome.report["images"][0]["layers"]
    return sum(layer["size"] for layer in layers if layer["action"] == "uploaded")


def test_what_crosses_the_wire_is_what_simulation_says(docker_registry, repository, wire, tmp_path):
    """Twenty-two pushes; bodies of blobs on the wire, configs included, within 3 %."""
    store = MadeUpStore(tmp_path / "made-up", scale=20)
    closures = [store.shrunk(closure) for closure in releases(sample(), 22)]
    told = history(closures)
    planned = list(simulate.plans(told, "auto", 20))
    size = {version.hash: version.size for version in told.items}
    registry: set[tuple[str, ...]] = set()
    simulated = 0
    for plan in planned:
        simulated += sum(size[one] for layer in set(plan) - registry for one in layer)
        registry |= set(plan)

    proxy = wire(docker_registry)
    uploaded = 0
    for closure in closures:
        file = store.write(closure)
        done = push(f"closure:{file}", f"{proxy.host}/{repository}", *AUTO).ok()
        uploaded += done.report["bytes"]["uploaded"]
    counted = sum(
        int(request.headers.get("content-length", 0))
        for request in proxy.stats().requests
        if request.method in ("PUT", "PATCH") and "/blobs/uploads/" in request.target
    )
    assert abs(counted - simulated) < 0.03 * simulated
    assert counted <= uploaded <= proxy.stats().bytes_up
    # So that agreement means something: half of that is not the first push.
    assert simulated > 1.3 * sum(size[one] for layer in planned[0] for one in layer)


def test_an_unchanged_push_gives_the_same_bytes(registry, repository, made_up):
    to = f"{registry.host}/{repository}"
    one, two = (made_up.shrunk(closure) for closure in releases(sample(), 2))
    first = push(f"closure:{made_up.write(one)}", to, *AUTO).ok()
    again = push(f"closure:{made_up.write(one)}", to, *AUTO).ok()
    assert again.report["digest"] == first.report["digest"]
    assert not again.report["changed"]
    assert again.report["bytes"]["uploaded"] == 0
    newer = push(f"closure:{made_up.write(two)}", to, *AUTO).ok()
    assert newer.report["digest"] != first.report["digest"]
    last = push(f"closure:{made_up.write(two)}", f"{to}:other", *AUTO).ok()
    assert last.report["digest"] == newer.report["digest"]
    assert last.report["planning"]["steps"] == [
        "the plan of an earlier image with the same items is used again"
    ]


def test_a_changed_configuration_alone_teaches_nothing(docker_registry, repository, made_up):
    to = f"{docker_registry.host}/{repository}"
    target = f"closure:{made_up.write(made_up.shrunk(sample()))}"
    push(target, to, *AUTO).ok()
    before = config(f"{to}:latest")
    assert push(target, to, *AUTO, "-e", "A=B").ok().report["changed"]
    after = config(f"{to}:latest")
    assert after["config"]["Env"] == ["A=B"]
    assert after["dev.regpush.layout"] == before["dev.regpush.layout"]


def test_another_strategy_s_image_is_planned_on(registry, repository, made_up):
    """Its layers are known by their recipes; an unchanged push changes not a byte of it."""
    to = f"{registry.host}/{repository}"
    one, two = (made_up.shrunk(closure) for closure in releases(sample(), 2))
    first = push(f"closure:{made_up.write(one)}", to, "--max-layers", "20").ok()
    again = push(f"closure:{made_up.write(one)}", to, *AUTO).ok()
    assert again.report["digest"] == first.report["digest"]
    newer = push(f"closure:{made_up.write(two)}", to, *AUTO).ok()
    assert newer.report["planning"]["steps"] == ["planned from 1 earlier image"]
    assert newer.actions.count("reused") > 10
    assert "dev.regpush.layout" in config(f"{to}:latest")


@pytest.mark.parametrize("version", [2, None])
def test_a_history_that_cannot_be_read_is_told_and_recipes_serve(
    docker_registry, repository, made_up, version
):
    to = f"{docker_registry.host}/{repository}"
    one, two = (made_up.shrunk(closure) for closure in releases(sample(), 2))
    push(f"closure:{made_up.write(one)}", to, *AUTO).ok()
    api = Api(docker_registry.host, repository)
    damaged = config(f"{to}:latest")
    damaged["dev.regpush.layout"] = {"version": version, "items": "?"}
    put_with_config(api, "latest", json.dumps(damaged).encode())
    done = push(f"closure:{made_up.write(two)}", to, *AUTO).ok()
    assert "the layout history is damaged" in done.stderr
    assert done.report["planning"]["steps"] == ["planned from 1 earlier image"]
    assert done.actions.count("reused") > 10


def put_with_config(api: Api, tag: str, body: bytes) -> None:
    """Let `tag` name the same layers with another config."""
    manifest = json.loads(api.send("GET", f"{api.base}/manifests/{tag}", headers=ACCEPT).body)
    manifest["config"] |= {"digest": api.put_blob(body), "size": len(body)}
    assert api.put_manifest(tag, json.dumps(manifest).encode()).status == 201


ACCEPT = {"Accept": MANIFEST_TYPE}


def test_a_lost_config_leads_to_the_image_before(docker_registry, repository, made_up):
    """The manifest names those it was planned from; their history and their layers serve."""
    to = f"{docker_registry.host}/{repository}"
    closures = [made_up.shrunk(closure) for closure in releases(sample(), 4)]
    for closure in closures[:3]:
        done = push(f"closure:{made_up.write(closure)}", to, *AUTO).ok()
    api = Api(docker_registry.host, repository)
    manifest = json.loads(api.send("GET", f"{api.base}/manifests/latest", headers=ACCEPT).body)
    assert api.send("DELETE", f"{api.base}/blobs/{manifest['config']['digest']}").status == 202
    last = push(f"closure:{made_up.write(closures[3])}", to, *AUTO).ok()
    assert "gives nothing to reuse" in last.stderr
    assert last.report["planning"]["steps"] == ["planned from 2 earlier images"]
    assert last.actions.count("reused") > 4
    whole = sum(layer["size"] for layer in done.report["images"][0]["layers"])
    assert sent(last) < whole / 2


def test_untagged_predecessors_that_are_deleted_are_missed_by_nobody(
    docker_registry, repository, made_up
):
    """Two branches in turn under one tag; the registry keeps the newest manifest alone."""
    to = f"{docker_registry.host}/{repository}"
    api = Api(docker_registry.host, repository)
    main, feature = (list(releases(sample(), 4, seed=seed)) for seed in (1, 2))
    sequence = [made_up.shrunk(one) for pair in zip(main, feature, strict=True) for one in pair]
    total, before = 0, None
    for closure in sequence:
        done = push(f"closure:{made_up.write(closure)}", to, *AUTO).ok()
        total += sent(done)
        if before and before != done.report["digest"]:
            assert api.send("DELETE", f"{api.base}/manifests/{before}").status == 202
        before = done.report["digest"]
    known: set[str] = set()
    least = 0
    for closure in sequence:
        least += sum(item.size for item in closure.items if item.path not in known)
        known.update(item.path for item in closure.items)
    # Of a few pushes on 20 layers, with the bytes of archives in it; simulation says the same.
    assert total / least < 1.03 * ratio(sequence, plans(sequence, limit=20))


def test_layout_from_replays_a_plan(registry, repository, made_up):
    to = f"{registry.host}/{repository}"
    closures = [made_up.shrunk(closure) for closure in releases(sample(), 4)]
    for number, closure in enumerate(closures[:3]):
        done = push(f"closure:{made_up.write(closure)}", f"{to}:t{number}", *AUTO).ok()
    read = done.report["planning"]["layout_from"]
    assert len(read) == 2
    push(f"closure:{made_up.write(closures[3])}", f"{to}:t3", *AUTO).ok()
    flags = [flag for digest in read for flag in ("--layout-from", digest)]
    target = f"closure:{made_up.write(closures[2])}"
    again = push(target, f"{to}:again", *AUTO, *flags).ok()
    assert again.report["digest"] == done.report["digest"]
    gone = f"sha256:{'0' * 64}"
    push(target, to, *AUTO, "--layout-from", gone).failed(2, "--layout-from", "no such image")
    push(target, to, *AUTO, "--layout-from", "v1").failed(2, "--layout-from", "not a digest")


def test_layers_of_another_repository_are_planned_on_and_mounted(registry, repository, made_up):
    host = registry.host
    one, two = (made_up.shrunk(closure) for closure in releases(sample(), 2))
    push(f"closure:{made_up.write(one)}", f"{host}/{repository}/one", *AUTO).ok()
    flags = ["--reuse-from", f"{host}/{repository}/one"]
    other = push(f"closure:{made_up.write(two)}", f"{host}/{repository}/two", *AUTO, *flags).ok()
    assert other.report["planning"]["steps"] == ["planned from other images"]
    assert other.actions.count("mounted") > 10


def app(root):
    for name in "abcdef":
        write(root / "node_modules" / name / "index.js", bytes([ord(name)]) * 9 + name.encode())
    write(root / "node_modules" / "big" / "x", b"".join(bytes([n % 251]) for n in range(400_000)))
    write(root / "main.js", "1")
    return root


def test_a_directory_learns_as_well(registry, repository, tmp_path):
    root, to = app(tmp_path / "app"), f"{registry.host}/{repository}"
    flags = ["--to", to, "--layers", "auto", "--format", "json"]
    planned = regpush("plan", root, *flags, "--exact").ok()
    first = push(root, to, "--layers", "auto").ok()
    # Its files were read for the first time while they were sent; the image knows them still.
    assert first.report["digest"] == planned.report["digest"]
    assert len(config(f"{to}:latest")["dev.regpush.layout"]["layers"]) == len(first.actions)
    assert push(root, to, "--layers", "auto").ok().report["digest"] == first.report["digest"]
    write(root / "main.js", "2")
    done = push(root, to, "--layers", "auto").ok()
    layers = done.report["images"][0]["layers"]
    assert [layer["why"] for layer in layers if layer["action"] == "uploaded"] == ["app changed"]


def test_max_upload_ends_push_and_plan_before_anything_is_sent(
    docker_registry, repository, wire, tmp_path
):
    root = tmp_path / "app"
    write(root / "noise", random.Random(1).randbytes(90_000))
    proxy = wire(docker_registry)
    to = f"{proxy.host}/{repository}"
    push(root, to, "--max-upload", "50kB").failed(7, "--max-upload allows 50000")
    assert {request.method for request in proxy.stats().requests} <= {"GET", "HEAD"}
    planned = regpush("plan", root, "--to", to, "--max-upload", "50kB")
    assert planned.code == 7
    assert "Would send about 90" in planned.stdout
    push(root, to, "--max-upload", "100kB").ok()
    # What is there already counts for nothing.
    push(root, to, "--max-upload", "0").ok()
    push(root, f"{to}:b", "--max-upload", "1 parsec").failed(2, "bad size")


def test_a_plan_tells_how_long_it_takes(docker_registry, repository, tmp_path):
    root, to = app(tmp_path / "app"), f"{docker_registry.host}/{repository}"
    plan = ["plan", root, "--to", to, "--link", "1mbit"]
    text = regpush(*plan).ok().stdout
    assert "at 1 Mbit/s" in text.splitlines()[-1]
    report = regpush(*plan, "--format", "json").ok().report
    assert report["link"]["bits_per_second"] == 1_000_000
    assert report["link"]["seconds"] == pytest.approx(report["bytes"]["uploaded"] * 8e-6, abs=1e-3)
    regpush("plan", root, "--to", to, "--link", "fast").failed(2, "bad link")


def test_why_between_images_and_plan_for_a_target(registry, repository, made_up):
    to = f"{registry.host}/{repository}"
    closure = sample()
    one, two, three = (
        made_up.shrunk(each)
        for each in (
            closure,
            with_new_versions(closure, ["libssl3"], "2"),
            with_new_versions(closure, ["libssl3", "tzdata"], "3"),
        )
    )
    push(f"closure:{made_up.write(one)}", f"{to}:one", *AUTO).ok()
    done = push(f"closure:{made_up.write(two)}", f"{to}:two", *AUTO).ok()
    found = regpush("why", f"{to}:one", f"{to}:two", "--format", "json").ok().report
    numbers = [
        number
        for number, layer in enumerate(done.report["images"][0]["layers"], 1)
        if layer["action"] == "uploaded"
    ]
    assert [layer["number"] for layer in found["layers"]] == numbers
    assert sum(cause["size"] for cause in found["causes"]) == sent(done)
    target = f"closure:{made_up.write(three)}"
    planned = regpush("plan", target, "--to", f"{to}:two", "--format", "json").ok().report
    told = [layer["why"] for layer in planned["images"][0]["layers"]]
    assert any(text.startswith("libssl3 changed; ") and "depend on it" in text for text in told)
    command = f"regpush plan {target} --to {to}:two"
    regpush("why", f"{to}:two", target).failed(2, "why compares two images", command)
    same = regpush("why", f"{to}:two", f"{to}:two").ok().stdout
    layers = len(done.report["images"][0]["layers"])
    assert same == f"0 B in 0 layers of {layers} are not in the old image.\n"
    regpush("why", f"{to}:none", f"{to}:two").failed(4, "no such image")


def test_history_writes_what_simulate_reads(registry, repository, made_up, tmp_path):
    to = f"{registry.host}/{repository}"
    closures = [made_up.shrunk(closure) for closure in releases(sample(), 3)]
    for number, closure in enumerate(closures):
        target = f"closure:{made_up.write(closure)}"
        push(target, f"{to}:1.{number}", "--max-layers", "127", "--layers", "size").ok()
    file = tmp_path / "history.json"
    regpush("history", to, "-o", file).ok()
    told = History.parse(file.read_bytes())
    assert told.semantics == "rehash"
    read = [closure for _, closure in told.closures()]
    assert [sorted(item.name for item in one.items) for one in read] == [
        sorted(item.name for item in one.items) for one in closures
    ]
    new = [len(push.add) for push in told.pushes[1:]]
    assert new == [
        len({item.path for item in later.items} - {item.path for item in earlier.items})
        for earlier, later in pairwise(closures)
    ]
    regpush("simulate", file, "--layers", "stable").ok()
    regpush("history", f"{registry.host}/{repository}/none").failed(4, "listing tags failed")
