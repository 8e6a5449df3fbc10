"""Clean Debian roots to try the package in, with and without systemd as their init.

A root is made once by debootstrap, from the mirror that this machine's apt uses, and kept below
target/debian-roots; every test gets a copy. What runs in it has its own processes, mounts and
network, so nothing here meets what runs outside.
"""

import os
import pathlib
import platform
import shutil
import signal
import subprocess
import time

import pytest

PROJECT = pathlib.Path(__file__).resolve().parents[2]
CACHE = PROJECT / "target/debian-roots"
# The package depends on the C library of the machine that built it: it is tried on the same Debian.
SUITE = platform.freedesktop_os_release().get("VERSION_CODENAME", "bookworm")
# What the package depends on, and what the tests ask with.
BARE = ["adduser", "ca-certificates", "curl"]
BOOTED = [*BARE, "dbus", "systemd", "systemd-sysv"]
ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def needed(*programs):
    """Skips where the machine can't."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes and enters a Debian of its own")
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")


def output(*argv, **kwargs):
    return subprocess.run(argv, check=True, text=True, stdout=subprocess.PIPE, **kwargs).stdout


def mirror():
    """Where this machine's own apt gets the suite from, in whichever format its sources are written."""
    lines = output("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages").splitlines()
    for line in lines:
        codename, uri = line.split()
        if codename == SUITE:
            return uri
    pytest.skip(f"this machine's apt has no source for {SUITE}")


def proxy():
    """debootstrap doesn't read apt's config."""
    line = output("apt-config", "shell", "PROXY", "Acquire::http::Proxy").strip()
    return {"http_proxy": line.split("'")[1]} if line else {}


def base(name, packages):
    root = CACHE / name
    if not root.exists():
        making = CACHE / f"{name}.making"
        shutil.rmtree(making, ignore_errors=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        log = CACHE / f"{name}.log"
        with log.open("w") as sink:
            made = subprocess.run(
                ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", SUITE, str(making), mirror()],
                env={**os.environ, **proxy()}, stdout=sink, stderr=subprocess.STDOUT)
        assert made.returncode == 0, log.read_text()[-2000:]
        making.rename(root)
    return root


class Machine:
    """A copy of a root, and processes in it."""

    def __init__(self, folder, base):
        self.root = folder / "root"
        subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(self.root)], check=True)
        self.leader = None

    def path(self, path):
        return self.root / path.lstrip("/")

    def argv(self, *argv):
        return ["nsenter", "-t", str(self.leader), "-m", "-p", "-n", "-u", "-i", "-r", "-w", "env", "-i",
                *(f"{name}={value}" for name, value in ENV.items()), *argv]

    def run(self, *argv, ok=True):
        done = subprocess.run(self.argv(*argv), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        assert not ok or done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def start(self, *argv):
        return subprocess.Popen(self.argv(*argv), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def outside(self, *argv):
        """A program of the testing machine in the tried one's network."""
        return subprocess.Popen(["nsenter", "-t", str(self.leader), "-n", *argv],
                                text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def install(self, deb, *options, ok=True):
        shutil.copy(deb, self.path("/root/package.deb"))
        return self.run("dpkg", *options, "-i", "/root/package.deb", ok=ok)

    def status(self, url):
        return self.run("curl", "-s", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}", url, ok=False)

    def wait_for(self, url, status="200"):
        for _ in range(100):
            if (seen := self.status(url)) == status:
                return
            time.sleep(0.1)
        raise AssertionError(f"{url}: {seen} instead of {status}")


class Chroot(Machine):
    """Without init, as in a container image or an installer."""

    def __enter__(self):
        self.shell = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child", "sh", "-ec",
             'mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"; exec chroot "$1" sleep infinity', "sh", str(self.root)],
            stderr=subprocess.DEVNULL)
        self.leader = child(self.shell.pid, "sleep")
        loopback_up(self.leader)
        return self

    def __exit__(self, *_):
        self.shell.kill()
        self.shell.wait()


class Booted(Machine):
    """With systemd as its init."""

    def __enter__(self):
        self.log = (self.root.parent / "boot.log").open("w+")
        self.nspawn = subprocess.Popen(
            ["systemd-nspawn", "-q", "--keep-unit", "--register=no", "--private-network", "--console=pipe", "-M", f"t{os.getpid()}",
             "-D", str(self.root), "-b"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        try:
            self.leader = child(self.nspawn.pid, "systemd")
            for _ in range(300):
                if self.run("systemctl", "is-system-running", ok=False).strip() in ("running", "degraded"):
                    return self
                time.sleep(0.1)
            raise TimeoutError
        except TimeoutError:
            self.__exit__()
            pytest.skip("systemd doesn't boot in a container here: " + (self.root.parent / "boot.log").read_text()[-300:])

    def __exit__(self, *_):
        # SIGRTMIN+4 is systemd's own "power off".
        if self.leader:
            os.kill(self.leader, signal.SIGRTMIN + 4)
        try:
            self.nspawn.wait(20)
        except subprocess.TimeoutExpired:
            self.nspawn.kill()
            self.nspawn.wait()
        self.log.close()


def child(parent, name):
    for _ in range(200):
        for line in output("ps", "-e", "-o", "pid=,ppid=,comm=").splitlines():
            pid, ppid, comm = line.split(None, 2)
            if int(ppid) == parent and comm.strip() == name:
                return int(pid)
        time.sleep(0.05)
    raise TimeoutError(f"no {name} below {parent}")


def loopback_up(leader):
    script = ("import fcntl, socket, struct\n"
              "fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8914, struct.pack('16sh14x', b'lo', 0x1 | 0x40))")
    subprocess.run(["nsenter", "-t", str(leader), "-n", "python3", "-c", script], check=True)
