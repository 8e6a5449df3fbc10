"""The image: what the specification asks for, small, and a gateway that runs in it.

SPILLWAY_IMAGE names the archive; without it, one is made of the debug build.
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import zlib

import container
import machine
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "deploy/image/build.py"
SPILLWAY = os.environ.get("SPILLWAY", str(ROOT / "target/debug/spillway"))
RELEASE = os.environ.get("SPILLWAY_IMAGE", "")
# The specification's own schemas, as Debian packages them (golang-github-opencontainers-image-spec-dev).
SCHEMAS = pathlib.Path("/usr/share/gocode/src/github.com/opencontainers/image-spec/schema")
LARGEST = 25_000_000
QUESTION = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Are you there?"}]}
THROUGH_MOCK = """
[server]
listen = ["127.0.0.1:8080"]
state_dir = "/var/lib/spillway"

[[backends]]
name = "mock"
kind = "azure-openai"
url = "http://resource.example:8081"

[[pools]]
name = "chat"
models = ["gpt-4o"]
members = [{ backend = "mock" }]
"""


def build(binary, archive, *options, **environment):
    done = subprocess.run([sys.executable, str(BUILD), str(binary), str(archive), *options], env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return archive


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image")
    return container.Image(RELEASE or build(SPILLWAY, folder / "image.tar", "--level", "1"), folder)


@pytest.fixture
def started(image, tmp_path):
    machine.needed("unshare", "nsenter", "setpriv", "ps")
    return lambda mounts: container.Container(image, tmp_path, mounts)


def validate(name, value):
    jsonschema = pytest.importorskip("jsonschema")
    referencing = pytest.importorskip("referencing")
    if not SCHEMAS.is_dir():
        pytest.skip(f"needs the schemas in {SCHEMAS}")
    # They name each other by a web address that ends in the file's name.
    registry = referencing.Registry(retrieve=lambda uri: referencing.Resource.from_contents(
        json.loads((SCHEMAS / uri.rpartition("/")[2]).read_text()), default_specification=referencing.jsonschema.DRAFT4))
    schema = json.loads((SCHEMAS / name).read_text())
    jsonschema.Draft4Validator(schema, registry=registry).validate(value)


def test_every_document_follows_the_specification(image):
    validate("image-layout-schema.json", image.json("oci-layout"))
    validate("image-index-schema.json", image.index)
    validate("image-manifest-schema.json", image.manifest)
    validate("config-schema.json", image.config)


def test_a_document_that_does_not_follow_it_is_found():
    with pytest.raises(Exception, match="schemaVersion"):
        validate("image-manifest-schema.json", {"schemaVersion": 1})


def test_every_blob_is_named_once_and_is_what_its_name_says(image):
    named = [*image.index["manifests"], image.manifest["config"], *image.manifest["layers"]]
    for descriptor in named:
        image.blob(descriptor)
    assert {image.path(descriptor) for descriptor in named} == set((image.layout / "blobs/sha256").iterdir())
    unpacked = [f"sha256:{hashlib.sha256(zlib.decompress(image.blob(layer), 31)).hexdigest()}" for layer in image.manifest["layers"]]
    assert image.config["rootfs"]["diff_ids"] == unpacked


def test_docker_load_finds_the_same_image(image):
    [loaded] = image.json("manifest.json")
    assert image.layout / loaded["Config"] == image.path(image.manifest["config"])
    assert [image.layout / layer for layer in loaded["Layers"]] == [image.path(layer) for layer in image.manifest["layers"]]


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_skopeo_copies_it(image, tmp_path, transport):
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")
    copied = subprocess.run(["skopeo", "--insecure-policy", "copy", f"{transport}:{image.archive}", f"dir:{tmp_path}"], capture_output=True, text=True)
    assert copied.returncode == 0, copied.stderr


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    """Of any program: it is this script that must not let the time, the folder or the user in."""
    copy = tmp_path / "elsewhere/program"
    copy.parent.mkdir()
    shutil.copy("/bin/true", copy)
    os.utime(copy, (0, 0))
    first = build("/bin/true", tmp_path / "first.tar", SOURCE_DATE_EPOCH="1700000000", TZ="UTC")
    second = build(copy, tmp_path / "second.tar", SOURCE_DATE_EPOCH="1700000000", TZ="Asia/Tokyo", PYTHONHASHSEED="7")
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() != build("/bin/true", tmp_path / "third.tar", SOURCE_DATE_EPOCH="1700000001").read_bytes()


def test_the_release_is_small(image):
    if not RELEASE:
        pytest.skip("SPILLWAY_IMAGE names no image of a release build")
    assert sum(layer["size"] for layer in image.manifest["layers"]) <= LARGEST


def test_what_it_says_about_itself(image):
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image.config["config"]["Labels"].items()}
    assert labels["version"] == re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    assert labels["title"] == "spillway" and labels["licenses"] == "Apache-2.0"
    assert image.config["config"]["User"] == "65532:65532"


def test_only_the_state_can_be_written(image):
    members = {member.name: member for layer in image.layers() for member in layer}
    assert {name for name, member in members.items() if member.uid or member.gid} == {"var/lib/spillway"}
    writable = {name for name, member in members.items() if not member.issym() and member.mode & (stat.S_IWGRP | stat.S_IWOTH)}
    assert writable == {"tmp"}
    assert not [name for name, member in members.items() if member.mode & (stat.S_ISUID | stat.S_ISGID)]


def test_there_is_no_program_but_the_gateway(image):
    programs = {member.name for layer in image.layers() for member in layer if member.isfile() and member.mode & stat.S_IXUSR}
    assert {name for name in programs if not name.startswith(("usr/lib/", "usr/lib64/"))} == {"usr/bin/spillway"}


def test_the_certificates_are_in_it(image):
    bundle = next(layer.extractfile("etc/ssl/certs/ca-certificates.crt").read() for layer in image.layers())
    assert bundle.count(b"-----BEGIN CERTIFICATE-----\n") == bundle.count(b"-----END CERTIFICATE-----\n") > 50


def test_it_answers_as_it_is_and_ends_on_sigterm(started):
    with started({}) as running:
        gateway = running.start()
        status, text = running.ask("http://127.0.0.1:8080/v1/chat/completions", QUESTION)
        assert (status, "no backends yet" in text) == (200, True), text
        process = pathlib.Path(f"/proc/{running.pid()}")
        said = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        assert said["Uid"].split() == said["Gid"].split() == ["65532"] * 4
        assert (said["CapEff"], said["CapPrm"], said["NoNewPrivs"], said["NSpid"].split()[-1]) == ("0" * 16, "0" * 16, "1", "1")
        interfaces = [line.split(":")[0].strip() for line in (process / "net/dev").read_text().splitlines()[2:]]
        assert interfaces == ["lo"]
        assert running.stop(gateway) == 0, running.said(gateway)


def test_it_finds_a_backend_by_its_name(started):
    with started({"etc/spillway/spillway.toml": THROUGH_MOCK, "etc/resolv.conf": "nameserver 127.0.0.1\n"}) as running:
        names = subprocess.Popen(running.python(container.NAME_SERVER), stdout=subprocess.PIPE, text=True)
        assert names.stdout.readline() == "listens\n"
        running.start("mock", "--listen", "127.0.0.1:8081")
        gateway = running.start()
        status, text = running.ask("http://127.0.0.1:8080/v1/chat/completions", QUESTION)
        assert status == 200, text
        assert json.loads(text)["choices"][0]["message"]["content"]
        assert running.stop(gateway) == 0, running.said(gateway)
        names.kill()
        names.wait()
