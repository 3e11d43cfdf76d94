"""Images built, read back, and read from bytes that nobody should have sent."""

import json
import signal
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regpush.closure import SearchPath, Side
from regpush.digest import OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor, Digest
from regpush.errors import UsageError, VerificationError
from regpush.image.image import Base, Image, Layer, build, check_options, put_together
from regpush.options import ImageOptions
from regpush.platform import Platform

AMD64 = Platform("linux", "amd64")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
)


def layer(text: str, *items: str) -> Layer:
    descriptor = Descriptor.of(text.encode(), OCI_LAYER_GZIP)
    return Layer(descriptor=descriptor, diff_id=Digest.of(b"tar " + text.encode()), items=items)


def made(options=None, **more) -> Image:
    layers = more.pop("layers", [layer("a", "/x y", "/é\udcff"), layer("b")])
    return build(layers, options or ImageOptions(), AMD64, recipe_version=1, **more)


def config_of(image):
    return json.loads(image.config)["config"]


def test_the_spec_s_required_fields():
    image = made()
    manifest, config = json.loads(image.manifest), json.loads(image.config)
    assert manifest["schemaVersion"] == 2
    assert manifest["mediaType"] == OCI_MANIFEST
    assert manifest["config"]["digest"] == str(Digest.of(image.config))
    assert manifest["config"]["size"] == len(image.config)
    assert config["rootfs"]["type"] == "layers"
    assert len(config["rootfs"]["diff_ids"]) == len(manifest["layers"]) == 2
    assert len(config["history"]) == 2
    assert config["created"] == "1970-01-01T00:00:01Z"


@pytest.mark.parametrize(
    ("said", "home", "base", "expected"),
    [
        ("", "/srv/my app", None, "/srv/my app"),
        ("/w", "/app", None, "/w"),
        ("/", "/app", None, "/"),
        ("", "/app", "", "/app"),
        ("", "/app", "/", "/app"),  # as BuildKit writes it for alpine
        ("", "/app", "/base", "/base"),
        ("/w", "/app", "/base", "/w"),
        ("", "/", "/base", "/base"),
        ("", "/", None, None),
        ("", "/caf\udce9", None, None),  # which no JSON can say
        ("", "", None, None),
    ],
)
def test_a_directory_is_the_working_directory_unless_somebody_says_another(
    said, home, base, expected
):
    below = None
    if base is not None:
        below = Base(name="r/base@sha256:0", image=made(ImageOptions(workdir=base or "/")))
        if not base:
            config = json.loads(below.image.config)
            config["config"]["WorkingDir"] = ""
            image = put_together(below.image.layers, config, {})
            below = Base(name=below.name, image=image)
    image = made(ImageOptions(workdir=said or None, home=home), base=below)
    assert config_of(image).get("WorkingDir") == expected


def test_what_is_built_is_read_back():
    image = made(ImageOptions(created=1700000000, annotations=(("k", "v"),)))
    again = Image.parse(image.manifest, image.config)
    assert again.descriptor == image.descriptor
    assert [one.items for one in again.layers] == [("/x y", "/é\udcff"), ()]
    assert again.recipe_version == 1
    assert again.platform == AMD64
    assert json.loads(image.config)["created"] == "2023-11-14T22:13:20Z"


def test_configuration():
    options = ImageOptions(
        env=(("A", "1"), ("B", "x=y")),
        labels=(("l", "1"),),
        entrypoint=("/bin/x", "a b"),
        cmd=("c",),
        user="1000:1000",
        workdir="/w",
        expose=("80", "53/udp", "8000-8002"),
        volumes=("/data",),
        stop_signal="SIGINT",
    )
    assert config_of(made(options)) == {
        "Env": ["A=1", "B=x=y"],
        "Labels": {"l": "1"},
        "Entrypoint": ["/bin/x", "a b"],
        "Cmd": ["c"],
        "User": "1000:1000",
        "WorkingDir": "/w",
        "ExposedPorts": {p: {} for p in ("80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp")},
        "Volumes": {"/data": {}},
        "StopSignal": "SIGINT",
    }


def test_a_base_is_inherited_as_docker_build_does():
    base = made(
        ImageOptions(
            env=(("PATH", "/bin"), ("A", "0")),
            entrypoint=("/e",),
            cmd=("c",),
            user="1",
            expose=("80",),
        )
    )
    top = [layer("top", "/app")]
    child = made(
        ImageOptions(env=(("A", "1"),), entrypoint=("/f",)),
        layers=top,
        base=Base(name="registry.test/base:1", image=base),
    )
    config = config_of(child)
    assert config["Env"] == ["PATH=/bin", "A=1"]
    assert config["Entrypoint"] == ["/f"]
    assert "Cmd" not in config
    assert (config["User"], config["ExposedPorts"]) == ("1", {"80/tcp": {}})
    assert [one.descriptor for one in child.layers[:2]] == [one.descriptor for one in base.layers]
    assert len(json.loads(child.config)["history"]) == 3
    assert config_of(
        made(ImageOptions(), layers=top, base=Base(name="registry.test/base:1", image=base))
    )["Cmd"] == ["c"]


def test_search_paths_go_beside_what_is_below():
    profile = "/gnu/store/x-profile"
    said = ImageOptions(
        search_paths=(
            SearchPath("PATH", f"{profile}/bin"),
            SearchPath("INFOPATH", f"{profile}/info"),
            SearchPath("CURL_CA_BUNDLE", f"{profile}/pem", Side.EXACT),
        ),
        env=(("INFOPATH", "/mine"),),
    )
    rest = [f"CURL_CA_BUNDLE={profile}/pem"]
    usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    alone = config_of(made(said))["Env"]
    assert sorted(alone) == sorted([f"PATH={profile}/bin:{usual}", "INFOPATH=/mine", *rest])
    below = made(ImageOptions(env=(("PATH", "/base/bin"), ("CURL_CA_BUNDLE", "/base"))))
    base = Base(name="registry.test/base:1", image=below)
    on_base = config_of(made(said, layers=[layer("top", "/app")], base=base))["Env"]
    assert sorted(on_base) == sorted([f"PATH={profile}/bin:/base/bin", "INFOPATH=/mine", *rest])


@pytest.mark.parametrize(
    "options",
    [
        ImageOptions(expose=("http",)),
        ImageOptions(expose=("0",)),
        ImageOptions(expose=("70000",)),
        ImageOptions(expose=("9-8",)),
        ImageOptions(volumes=("data",)),
        ImageOptions(workdir="w"),
        ImageOptions(stop_signal="kill it"),
        ImageOptions(stop_signal="SIGTREM"),
        ImageOptions(stop_signal="SIGRTMIN+16"),
        ImageOptions(stop_signal="0"),
        ImageOptions(stop_signal="65"),
        ImageOptions(platforms=("linux",)),
        ImageOptions(created=10**13),
        ImageOptions(created=-1),
        ImageOptions(env=(("A", "\udcff"),)),
        ImageOptions(entrypoint=("\udcff",)),
        ImageOptions(platforms=("linux/amd64/v1/x",)),
    ],
)
def test_options_no_image_can_hold(options):
    with pytest.raises(UsageError):
        check_options(options)


@pytest.mark.parametrize(
    ("system", "platform"),
    [
        ("x86_64-linux", "linux/amd64"),
        ("aarch64-linux", "linux/arm64"),
        ("armhf-linux", "linux/arm/v7"),
        ("i686-linux", "linux/386"),
        ("riscv64-linux", "linux/riscv64"),
    ],
)
def test_systems_as_nix_and_guix_name_them(system, platform):
    assert str(Platform.of_system(system)) == platform


@pytest.mark.parametrize("system", ["x86_64-darwin", "vax-linux", "", "linux"])
def test_other_systems(system):
    assert Platform.of_system(system) is None


@given(JSON, JSON)
def test_any_json_is_read_or_refused(manifest, config):
    with pytest.raises(VerificationError):
        Image.parse(json.dumps(manifest).encode(), json.dumps(config).encode())


@given(st.binary(max_size=50))
def test_any_bytes_are_refused(data):
    with pytest.raises(VerificationError):
        Image.parse(data, data)


@given(st.sampled_from(["layers", "config", "annotations", "mediaType", "schemaVersion"]), JSON)
def test_a_manifest_with_one_field_replaced(field, value):
    image = made()
    manifest = json.loads(image.manifest)
    if manifest.get(field) == value:
        return
    manifest[field] = value
    try:
        parsed = Image.parse(json.dumps(manifest).encode(), image.config)
    except VerificationError:
        return
    assert field == "annotations"
    assert not value or isinstance(value, dict)
    assert parsed.ancestor is None


@given(st.sampled_from(["rootfs", "history", "os", "architecture", "config"]), JSON)
def test_a_config_with_one_field_replaced(field, value):
    image = made()
    config = json.loads(image.config)
    config[field] = value
    try:
        parsed = Image.parse(image.manifest, json.dumps(config).encode())
    except VerificationError:
        return
    Base(name="x", image=parsed).to_inherit()
    if field == "history":
        assert not value or all(isinstance(one, dict) for one in value)


def test_unequal_layers_and_diff_ids():
    image = made()
    config = json.loads(image.config)
    config["rootfs"]["diff_ids"].pop()
    with pytest.raises(VerificationError, match="2 layers but its config 1"):
        Image.parse(image.manifest, json.dumps(config).encode())


@pytest.mark.skipif(sys.platform != "linux", reason="Python names the signals of its own system")
def test_every_signal_of_linux_may_stop_a_container():
    names = [one.name for one in signal.Signals]
    for name in [*names, *(name.removeprefix("SIG") for name in names), "SIGRTMIN+3", "1", "64"]:
        check_options(ImageOptions(stop_signal=name))
