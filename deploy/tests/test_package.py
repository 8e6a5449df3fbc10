"""The package in a clean Debian, from the first installation to the purge.

SPILLWAY_DEB names it. As root; everything happens in copies of a root of its own.
"""

import os
import pathlib
import stat
import subprocess
import time

import machine
import packages
import pytest

# Whether the packaged binary has `upgrade` and tells systemd about itself.
UPGRADES = True

DEB = os.environ.get("SPILLWAY_DEB", "")
CONFIG = "/etc/spillway/spillway.toml"
READY = "http://127.0.0.1:9090/readyz"
OURS = "# A line of the machine's own.\n"
KEPT_OLD = "did not hand over"
SLOW_REQUEST = pathlib.Path(__file__).with_name("slow_request.py")

pytestmark = pytest.mark.skipif(not DEB, reason="SPILLWAY_DEB names no package")


@pytest.fixture(scope="module")
def later(tmp_path_factory):
    return packages.later(pathlib.Path(DEB), tmp_path_factory.mktemp("later"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    return packages.later(pathlib.Path(DEB), tmp_path_factory.mktemp("broken"), broken=True)


@pytest.fixture
def bare(tmp_path):
    machine.needed("debootstrap", "unshare", "nsenter", "dpkg-deb")
    with machine.Chroot(tmp_path, machine.base("bare", machine.BARE)) as bare:
        yield bare


@pytest.fixture
def booted(tmp_path):
    machine.needed("debootstrap", "systemd-nspawn", "nsenter", "dpkg-deb")
    with machine.Booted(tmp_path, machine.base("booted", machine.BOOTED)) as booted:
        if not UPGRADES:
            drop_in(booted, "tolerant", "[Service]\nType=simple\nWatchdogSec=0\n")
        yield booted


def drop_in(debian, name, text):
    folder = debian.path("/etc/systemd/system/spillway.service.d")
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.conf").write_text(text)


def run_by_hand(debian):
    gateway = debian.start("setpriv", "--reuid=spillway", "--regid=spillway", "--init-groups", "spillway", "run", "-c", CONFIG)
    debian.wait_for(READY)
    return gateway


def pretend_systemd(debian):
    """What the maintainer scripts ask of systemd, where it isn't there: yes, the unit is active."""
    debian.path("/run/systemd/system").mkdir(parents=True)
    stub = debian.path("/usr/local/bin/systemctl")
    stub.write_text("#!/bin/sh\nexit 0\n")
    stub.chmod(0o755)


def slow_request(debian):
    request = debian.outside("python3", str(SLOW_REQUEST), "8080")
    assert request.stdout.readline() == "sent\n"
    return request


def finish(request):
    return request.communicate("now\n", timeout=60)[0].strip()


def gateways(debian):
    """pid in there -> whether its file is still the one on disk"""
    found = {}
    for line in debian.run("sh", "-c", "for p in /proc/[0-9]*; do echo ${p#/proc/} $(readlink $p/exe); done").splitlines():
        pid, _, program = line.partition(" ")
        if program.removesuffix(" (deleted)") == "/usr/bin/spillway":
            found[int(pid)] = not program.endswith("(deleted)")
    return found


def wait_until(question):
    for _ in range(150):
        if question():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def modes(debian, *paths):
    return {path: debian.run("stat", "-c", "%A %U %G", path).strip() for path in paths}


def left_over(debian):
    return [path for path in debian.run("find", "/", "-xdev", "-iname", "*spillway*", "-not", "-path", "/proc/*").split()]


def test_files_owners_modes(bare):
    bare.install(DEB)
    assert modes(bare, "/usr/bin/spillway", CONFIG, "/etc/spillway", "/etc/spillway/credentials", "/var/lib/spillway", "/var/log/spillway",
                 "/lib/systemd/system/spillway.service") == {
        "/usr/bin/spillway": "-rwxr-xr-x root root",
        CONFIG: "-rw-r----- root spillway",
        "/etc/spillway": "drwxr-x--- root spillway",
        "/etc/spillway/credentials": "drwx------ root root",
        "/var/lib/spillway": "drwxr-x--- spillway spillway",
        "/var/log/spillway": "drwxr-x--- spillway spillway",
        "/lib/systemd/system/spillway.service": "-rw-r--r-- root root",
    }
    passwd = bare.run("getent", "passwd", "spillway").strip().split(":")
    assert passwd[5:] == ["/var/lib/spillway", "/usr/sbin/nologin"] and int(passwd[2]) < 1000
    assert bare.run("dpkg-query", "-W", "-f", "${Conffiles}", "spillway").split()[0] == CONFIG
    assert bare.run("dpkg", "--verify", "spillway") == ""
    for file in ("man/man1/spillway.1.gz", "bash-completion/completions/spillway", "zsh/vendor-completions/_spillway",
                 "fish/vendor_completions.d/spillway.fish", "doc/spillway/spillway.cdx.json", "doc/spillway/copyright"):
        # minbase leaves documentation in place unless told otherwise
        assert bare.path(f"/usr/share/{file}").is_file(), file
    for folder in ("prometheus", "grafana"):
        assert list(bare.path(f"/usr/share/spillway/{folder}").iterdir())


def test_enabled_for_the_next_boot(bare):
    bare.install(DEB)
    wants = bare.path("/etc/systemd/system/multi-user.target.wants/spillway.service")
    assert stat.S_ISLNK(wants.lstat().st_mode)
    assert not bare.path("/etc/systemd/system/sockets.target.wants/spillway.socket").is_symlink()


def test_the_default_config_serves(bare):
    bare.install(DEB)
    assert bare.run("spillway", "check", "-c", CONFIG)
    gateway = run_by_hand(bare)
    answer = bare.run("curl", "-s", "http://127.0.0.1:8080/v1/chat/completions", "-H", "content-type: application/json",
                      "-d", '{"model": "gpt-4o", "messages": [{"role": "user", "content": "Are you there?"}]}')
    assert "no backends yet" in answer
    end(bare)
    assert gateway.wait(20) == 0


def end(debian):
    for pid in gateways(debian):
        debian.run("sh", "-c", f"kill {pid}")


def test_installing_again_starts_nothing(bare):
    bare.install(DEB)
    bare.install(DEB)
    assert gateways(bare) == {}


def test_an_upgrade_keeps_the_config(bare, later):
    bare.install(DEB)
    config = bare.path(CONFIG)
    config.write_text(config.read_text() + OURS)
    bare.install(later, "--force-confold")
    assert config.read_text().endswith(OURS)
    assert modes(bare, CONFIG) == {CONFIG: "-rw-r----- root spillway"}
    assert bare.path(f"{CONFIG}.dpkg-dist").read_text().endswith(packages.NEW_LINE)
    assert bare.run("dpkg-query", "-W", "-f", "${Version}", "spillway") == packages.LATER


def test_an_upgrade_leaves_what_runs_alone_without_systemd(bare, later):
    bare.install(DEB)
    run_by_hand(bare)
    bare.install(later)
    assert bare.status(READY) == "200"
    assert list(gateways(bare).values()) == [False]


def test_a_gateway_hands_over_by_command(bare, later):
    if not UPGRADES:
        pytest.skip("the binary has no `upgrade` yet")
    bare.install(DEB)
    run_by_hand(bare)
    bare.install(later)
    request = slow_request(bare)
    bare.run("spillway", "upgrade", "-c", CONFIG)
    assert sorted(gateways(bare).values()) == [False, True]
    assert bare.status(READY) == "200"
    assert finish(request) == "200"
    wait_until(lambda: list(gateways(bare).values()) == [True])


def test_an_upgrade_hands_over(bare, later):
    bare.install(DEB)
    run_by_hand(bare)
    pretend_systemd(bare)
    said = bare.install(later)
    assert bare.status(READY) == "200"
    if UPGRADES:
        assert KEPT_OLD not in said
        wait_until(lambda: list(gateways(bare).values()) == [True])
    else:
        assert KEPT_OLD in said


def test_a_failed_hand_over_leaves_the_old_one_serving(bare, broken):
    bare.install(DEB)
    old = gateways(bare) or run_by_hand(bare)
    pretend_systemd(bare)
    request = slow_request(bare)
    said = bare.install(broken)
    assert KEPT_OLD in said
    assert bare.run("dpkg-query", "-W", "-f", "${Status} ${Version}", "spillway") == f"install ok installed {packages.LATER}"
    assert bare.status(READY) == "200"
    assert finish(request) == "200"
    assert list(gateways(bare).values()) == [False] and old


def test_policy_rc_d_is_asked(bare, later):
    bare.install(DEB)
    run_by_hand(bare)
    pretend_systemd(bare)
    policy = bare.path("/usr/sbin/policy-rc.d")
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    said = bare.install(later)
    assert KEPT_OLD not in said
    assert list(gateways(bare).values()) == [False]


@pytest.mark.parametrize("upgraded", [False, True])
def test_remove_keeps_and_purge_leaves_nothing(bare, later, upgraded):
    before = left_over(bare)
    bare.install(DEB)
    if upgraded:
        bare.install(later)
    bare.path("/etc/spillway/credentials/aoai-ptu").write_text("key")
    bare.path("/var/lib/spillway/ledger.sqlite").write_text("rows")
    bare.run("dpkg", "--remove", "spillway")
    assert bare.path(CONFIG).exists() and bare.path("/var/lib/spillway/ledger.sqlite").exists()
    assert not bare.path("/usr/bin/spillway").exists()
    bare.run("dpkg", "--purge", "spillway")
    bare.path("/root/package.deb").unlink()
    assert [path for path in left_over(bare) if "/var/log/" not in path] == before
    assert bare.run("getent", "passwd", "spillway", ok=False) == bare.run("getent", "group", "spillway", ok=False) == ""


# With systemd as init: the unit, its sandbox, its processes.


def show(debian, *properties):
    """One call each: systemctl answers in an order of its own."""
    return [debian.run("systemctl", "show", "-P", name, "spillway").strip() for name in properties]


def journal(debian):
    return debian.run("journalctl", "-u", "spillway", "-o", "cat", "--no-pager")


def test_it_runs_in_its_sandbox(booted):
    booted.install(DEB)
    booted.wait_for(READY)
    active, pid = show(booted, "ActiveState", "MainPID")
    assert active == "active", journal(booted)
    status = dict(line.split(":\t", 1) for line in booted.run("cat", f"/proc/{pid}/status").splitlines() if ":\t" in line)
    assert (status["Seccomp"], status["NoNewPrivs"], status["CapBnd"]) == ("2", "1", "0" * 16)
    assert modes(booted, "/var/lib/spillway/ledger.sqlite") == {"/var/lib/spillway/ledger.sqlite": "-rw------- spillway spillway"}


def test_reload_tells_a_bad_config(booted):
    if not UPGRADES:
        pytest.skip("the binary has no `reload` yet")
    booted.install(DEB)
    booted.wait_for(READY)
    booted.run("systemctl", "reload", "spillway")
    config = booted.path(CONFIG)
    config.write_text(config.read_text() + "nonsense = true\n")
    assert subprocess.run(booted.argv("systemctl", "reload", "spillway"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0
    assert show(booted, "ActiveState") == ["active"] and booted.status(READY) == "200"


def test_a_bad_config_is_not_tried_again(booted):
    booted.install(DEB)
    booted.path(CONFIG).write_text("nonsense = true\n")
    booted.run("systemctl", "restart", "spillway", ok=False)
    wait_until(lambda: show(booted, "ActiveState", "NRestarts") == ["failed", "0"])


def test_an_upgrade_keeps_a_request_and_a_stop_waits_for_it(booted, later):
    """A new process that systemd doesn't take for its own child is killed at once by every later stop."""
    if not UPGRADES:
        pytest.skip("the binary has no `upgrade` yet")
    booted.install(DEB)
    booted.wait_for(READY)
    [old] = show(booted, "MainPID")
    request = slow_request(booted)
    assert KEPT_OLD not in booted.install(later)
    [new] = show(booted, "MainPID")
    assert new != old and show(booted, "ActiveState") == ["active"]
    assert int(old) in gateways(booted)

    later_request = slow_request(booted)
    stop = booted.start("systemctl", "stop", "spillway")
    time.sleep(1)
    assert stop.poll() is None
    assert finish(later_request) == "200"
    assert stop.wait(30) == 0
    # The old one is not signalled and goes on.
    assert finish(request) == "200"
    wait_until(lambda: gateways(booted) == {})
    assert "SIGKILL" not in journal(booted)
    assert "not our child" not in journal(booted)


def test_a_crash_after_an_upgrade_restarts_at_once(booted, later):
    if not UPGRADES:
        pytest.skip("the binary has no `upgrade` yet")
    booted.install(DEB)
    booted.wait_for(READY)
    request = slow_request(booted)
    booted.install(later)
    [new] = show(booted, "MainPID")
    booted.run("sh", "-c", f"kill -ABRT {new}")
    wait_until(lambda: show(booted, "ActiveState", "NRestarts") == ["active", "1"])
    booted.wait_for(READY)
    assert finish(request) == "200"


def test_removing_ends_what_an_upgrade_left(booted, later):
    if not UPGRADES:
        pytest.skip("the binary has no `upgrade` yet")
    booted.install(DEB)
    booted.wait_for(READY)
    slow_request(booted)
    booted.install(later)
    assert len(gateways(booted)) == 2
    booted.run("dpkg", "--purge", "spillway")
    wait_until(lambda: gateways(booted) == {})
    assert not booted.path("/var/lib/spillway").exists()
