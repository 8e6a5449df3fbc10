"""The units are valid, and as closed as they claim."""

import json
import pathlib
import shutil
import subprocess

import pytest

SYSTEMD = pathlib.Path(__file__).resolve().parents[1] / "systemd"
EXPOSURE = 1.5
# What a gateway can't do without: the network, look-ups, and the clock's device that ProtectClock= itself lets in.
OPEN = {
    "RestrictAddressFamilies_AF_INET_INET6", "RestrictAddressFamilies_AF_UNIX", "RestrictAddressFamilies_AF_NETLINK",
    "PrivateNetwork", "IPAddressDeny", "DeviceAllow", "RootDirectoryOrRootImage",
}

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


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
