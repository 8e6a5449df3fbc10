"""What a container runtime does with an image: unpacks it and starts it, closed in, with no network but loopback."""

import contextlib
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import tarfile
import time

import machine

# Where the image is read-only, its own volume is not.
PREPARE = """
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs -o "uid=$2,gid=$2,mode=0750" tmpfs "$1/var/lib/spillway"
mount -o remount,bind,ro "$1"
while [ $# -gt 2 ]; do mount --bind "$3" "$1/$4"; set -- "$1" "$2" "${@:5}"; done
exec sleep infinity
"""


class Image:
    """An OCI archive, unpacked."""

    def __init__(self, archive, folder):
        self.archive, self.layout = pathlib.Path(archive), folder / "layout"
        with tarfile.open(archive) as files:
            files.extraction_filter = getattr(tarfile, "data_filter", None)
            files.extractall(self.layout)
        self.index = self.json("index.json")
        [descriptor] = self.index["manifests"]
        self.manifest = json.loads(self.blob(descriptor))
        self.config = json.loads(self.blob(self.manifest["config"]))

    def json(self, path):
        return json.loads((self.layout / path).read_text())

    def path(self, descriptor):
        kind, _, value = descriptor["digest"].partition(":")
        return self.layout / "blobs" / kind / value

    def blob(self, descriptor):
        """Its bytes, if they are what the descriptor says."""
        data = self.path(descriptor).read_bytes()
        assert descriptor["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert descriptor["size"] == len(data)
        return data

    def layers(self):
        for descriptor in self.manifest["layers"]:
            with tarfile.open(self.path(descriptor), "r:gz") as layer:
                yield layer

    def unpack(self, root):
        """With the owners that the image names, which takes root."""
        for layer in self.layers():
            # As it is, owners and modes included. Debian 12's Python has no filters yet, and doesn't read this.
            layer.extraction_filter = lambda member, _: member
            layer.extractall(root, numeric_owner=True)
        for name in ("proc", "dev"):
            (root / name).mkdir()
        return root


class Container:
    """The image's program and others of its kind, in namespaces of their own."""

    def __init__(self, image, folder, mounts):
        """`mounts`: path in the image = its content there."""
        self.image, self.root = image, image.unpack(folder / "root")
        self.mounts = []
        for number, (path, text) in enumerate(mounts.items()):
            source = folder / f"mount{number}"
            source.write_text(text)
            # A runtime makes what a mount needs and the image lacks.
            (self.root / path).touch()
            self.mounts += [str(source), path]
        self.uid, self.gid = image.config["config"]["User"].split(":")
        self.running = []

    def __enter__(self):
        self.shell = subprocess.Popen(["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child",
                                       "bash", "-ec", PREPARE, "bash", str(self.root), self.uid, *self.mounts])
        self.leader = machine.child(self.shell.pid, "sleep")
        machine.loopback_up(self.leader)
        return self

    def __exit__(self, *_):
        self.shell.kill()
        self.shell.wait()
        for process in self.running:
            process.wait()
            process.log.close()

    def start(self, *argv):
        """As the image's user, as process 1, without privileges and without a way to get them; by default what the image starts."""
        config = self.image.config["config"]
        command = [*config["Entrypoint"], *(argv or config["Cmd"])]
        log = (self.root.parent / f"{len(self.running)}.log").open("w+")
        process = subprocess.Popen(
            ["nsenter", "-t", str(self.leader), "-m", "-p", "-n", "-i", "-u", "unshare", "--pid", "--fork", "--kill-child",
             "setpriv", "--no-new-privs", "chroot", f"--userspec={self.uid}:{self.gid}", "--groups=", str(self.root),
             *command], env=dict(entry.split("=", 1) for entry in config["Env"]) | {"PATH": os.environ["PATH"]},
            stdout=log, stderr=subprocess.STDOUT)
        process.log = log
        self.running.append(process)
        return process

    def said(self, process):
        process.log.flush()
        return pathlib.Path(process.log.name).read_text()

    def pid(self, *argv):
        """Of the process that was started with these arguments, as this machine counts."""
        wanted = [os.fsencode(arg) for arg in argv or self.image.config["config"]["Cmd"]]
        for entry in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().split(b"\0")[:-1]
                if entry.name.isdigit() and command[1:] == wanted and os.readlink(entry / "root") == str(self.root):
                    return int(entry.name)
        raise AssertionError(f"{argv}: no such process")

    def stop(self, process, *argv):
        """Its exit code after a SIGTERM."""
        os.kill(self.pid(*argv), signal.SIGTERM)
        return process.wait(30)

    def python(self, script, *argv):
        """A program of the testing machine in the container's network."""
        return ["nsenter", "-t", str(self.leader), "-n", "python3", "-c", script, *argv]

    def ask(self, url, body=None):
        """Status and text, as soon as somebody listens."""
        for _ in range(150):
            done = subprocess.run(self.python(ASK, url, *([json.dumps(body)] if body else [])), text=True, capture_output=True)
            if done.returncode == 0:
                status, _, text = done.stdout.partition("\n")
                return int(status), text
            time.sleep(0.1)
        raise AssertionError(f"{url}: {done.stderr}\n" + "\n".join(self.said(process) for process in self.running))


ASK = """
import sys, urllib.error, urllib.request
body = sys.argv[2].encode() if len(sys.argv) > 2 else None
request = urllib.request.Request(sys.argv[1], body, {"content-type": "application/json"})
try:
    answer = urllib.request.urlopen(request, timeout=20)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status)
print(answer.read().decode())
"""

# Answers every question for an IPv4 address with 127.0.0.1, and every other one with nothing (RFC 1035, section 4).
NAME_SERVER = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
print("listens", flush=True)
while True:
    query, caller = server.recvfrom(512)
    end = query.index(0, 12) + 5
    address = query[end - 4:end - 2] == bytes([0, 1])
    head = query[:2] + bytes([0x81, 0x80, 0, 1, 0, int(address), 0, 0, 0, 0])
    answer = bytes([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]) if address else b""
    server.sendto(head + query[12:end] + answer, caller)
"""
