"""The units are valid, and as closed as they claim."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SYSTEMD = ROOT / "deploy/systemd"
EXPOSURE = 1.5
# What a gateway can't do without: the network, look-ups, and the clock's device that ProtectClock= itself lets in.
OPEN = {
    "RestrictAddressFamilies_AF_INET_INET6", "RestrictAddressFamilies_AF_UNIX", "RestrictAddressFamilies_AF_NETLINK",
    "PrivateNetwork", "IPAddressDeny", "DeviceAllow", "RootDirectoryOrRootImage",
}


@pytest.fixture
def units(tmp_path):
    """As installed, but with a program that is there."""
    for unit in SYSTEMD.glob("spillway.*"):
        text = unit.read_text()
        (tmp_path / unit.name).write_text(text.replace("/usr/bin/spillway", "/bin/true"))
    return tmp_path


def analyze(*argv):
    return subprocess.run(["systemd-analyze", "--no-pager", *argv], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def with_drop_in(units, name):
    folder = units / "spillway.service.d"
    folder.mkdir()
    shutil.copy(SYSTEMD / "examples" / name, folder)


def test_verify(units):
    done = analyze("verify", "--man=no", *map(str, sorted(units.glob("spillway.*"))))
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", [example.name for example in sorted((SYSTEMD / "examples").iterdir())])
def test_verify_with_drop_in(units, name):
    with_drop_in(units, name)
    done = analyze("verify", "--man=no", str(units / "spillway.service"))
    assert (done.returncode, done.stdout) == (0, "")


def test_exposure(units):
    done = analyze("security", "--offline=true", f"--threshold={round(EXPOSURE * 10)}", str(units / "spillway.service"))
    assert done.returncode == 0, done.stdout


def test_nothing_else_is_open(units):
    done = analyze("security", "--offline=true", "--json=short", str(units / "spillway.service"))
    found = {row["json_field"] for row in json.loads(done.stdout) if row.get("exposure") and float(row["exposure"]) > 0}
    assert found <= OPEN


def test_a_stop_waits_for_the_streams():
    seconds = next(line for line in (SYSTEMD / "spillway.service").read_text().splitlines() if line.startswith("TimeoutStopSec="))
    lb_delay, drain_timeout = 0, 300
    assert int(seconds.removeprefix("TimeoutStopSec=").removesuffix("s")) > lb_delay + drain_timeout


SPILLWAY = os.environ.get("SPILLWAY", str(ROOT / "target/debug/spillway"))
ACTIVATED = """
[server]
listen = ["127.0.0.1:{port}"]
admin = "127.0.0.1:{admin}"

[[backends]]
name = "gone"
kind = "openai"
url = "http://127.0.0.1:1"

[[backends]]
name = "sorry"
kind = "mock"
reply = "later"

[[pools]]
name = "chat"
models = ["gpt-4o"]
members = [{{ backend = "gone" }}, {{ backend = "sorry", priority = 9 }}]
"""


def test_a_socket_that_systemd_passes_is_used(tmp_path):
    """Binding it once more would fail: somebody has it."""
    port, admin = free_port(), free_port()
    config = tmp_path / "spillway.toml"
    config.write_text(ACTIVATED.format(port=port, admin=admin))
    command = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", SPILLWAY, "run", "-c", str(config)]
    gateway = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for_listener(port)
        body = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}'
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, {"content-type": "application/json"})
        assert b"later" in urllib.request.urlopen(request, timeout=30).read()
        assert urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=30).status == 200
    finally:
        gateway.terminate()
        assert gateway.wait(20) == 0


def wait_for_listener(port):
    # Without connecting: the first connection starts the gateway.
    for _ in range(500):
        if f":{port:04X} 00000000:0000 0A" in pathlib.Path("/proc/net/tcp").read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens on port {port}")


def free_port():
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]
