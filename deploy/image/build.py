#!/usr/bin/env python3
"""An OCI image of the gateway, as an archive: python3 deploy/image/build.py BINARY ARCHIVE [--sbom FILE] [--ca FILE] [--level 1..9]

Two layers: what the program needs of a system (the C library that it is linked to, CA certificates, a user),
and the program, stripped. No shell, no package manager. Needs no daemon, no root and no network. The archive
is an OCI image layout (https://github.com/opencontainers/image-spec, image-layout.md) with the `manifest.json`
that `docker load` reads in older versions. The same inputs give the same bytes; SOURCE_DATE_EPOCH sets the time.
"""

import argparse
import datetime
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
# As in distroless images: a number that no distribution hands out.
USER, UID = "spillway", 65532
# Debian's own certificates, without those that somebody added to this machine.
CERTIFICATES = pathlib.Path("/usr/share/ca-certificates")
# Looks names up. In the C library itself since 2.34; older ones load these when they are first needed.
RESOLVER = ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"]
ARCHITECTURES = {0x3E: "amd64", 0xB7: "arm64"}
MANIFEST, CONFIG, LAYER, INDEX = (f"application/vnd.oci.image.{kind}" for kind in
                                  ("manifest.v1+json", "config.v1+json", "layer.v1.tar+gzip", "index.v1+json"))
EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH") or 0)
CREATED = datetime.datetime.fromtimestamp(EPOCH, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("binary", type=pathlib.Path)
    arguments.add_argument("archive", type=pathlib.Path)
    arguments.add_argument("--sbom", type=pathlib.Path, help="CycloneDX file to put into the image")
    arguments.add_argument("--ca", type=pathlib.Path, help="PEM file with the CA certificates, instead of Debian's")
    arguments.add_argument("--level", type=int, choices=range(1, 10), default=9, help="of gzip")
    given = arguments.parse_args()
    if not given.binary.is_file():
        sys.exit(f"image: {given.binary} is missing: `make release` builds it")
    layers = [layer("the system", system_layer(given.binary, given.ca), given.level),
              layer("the gateway", program_layer(given.binary, given.sbom), given.level)]
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    write_archive(given.archive, layers, architecture(given.binary), version)
    compressed = sum(len(found["bytes"]) for found in layers)
    print(f"{given.archive}: spillway:{version}, {compressed / 1e6:.1f} MB compressed")


class Tree:
    """A layer's files, with owners and modes of their own and one time."""

    def __init__(self):
        self.entries = {}

    def add(self, path, kind=tarfile.REGTYPE, data=b"", mode=0o644, owner=0, link=""):
        for parent in reversed(pathlib.PurePosixPath(path).parents[:-1]):
            if str(parent) not in self.entries:
                self.entries[str(parent)] = self.entry(str(parent), tarfile.DIRTYPE, b"", 0o755, 0, "")
        self.entries[path] = self.entry(path, kind, data, mode, owner, link)

    @staticmethod
    def entry(path, kind, data, mode, owner, link):
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.size, info.linkname = kind, mode, len(data), link
        info.mtime, info.uid, info.gid = EPOCH, owner, owner
        return info, data

    def file(self, path, data, mode=0o644):
        self.add(path, data=data.encode() if isinstance(data, str) else data, mode=mode)

    def folder(self, path, mode=0o755, owner=0):
        self.add(path, kind=tarfile.DIRTYPE, mode=mode, owner=owner)

    def link(self, path, target):
        self.add(path, kind=tarfile.SYMTYPE, link=target, mode=0o777)

    def tar(self):
        return tar(self.entries[path] for path in sorted(self.entries))


def tar(entries):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def system_layer(binary, ca):
    tree = Tree()
    libraries = shared_libraries(binary)
    for name in ("lib", "lib64"):
        if libraries:
            tree.link(name, f"usr/{name}")
    for library in libraries:
        # /lib is /usr/lib in the image, too.
        tree.file(re.sub("^/lib", "/usr/lib", library).lstrip("/"), pathlib.Path(library).read_bytes(), 0o755)
    tree.file("etc/ssl/certs/ca-certificates.crt", certificates(ca))
    tree.file("etc/passwd", f"root:x:0:0:root:/:/sbin/nologin\n{USER}:x:{UID}:{UID}:Spillway:/var/lib/spillway:/sbin/nologin\n")
    tree.file("etc/group", f"root:x:0:\n{USER}:x:{UID}:\n")
    tree.file("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    # A container's runtime lays its own over it.
    tree.file("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
    tree.folder("tmp", 0o1777)
    tree.folder("var/lib/spillway", 0o750, UID)
    describe_packages(tree, libraries, ca)
    return tree.tar()


def program_layer(binary, sbom):
    tree = Tree()
    tree.file("usr/bin/spillway", stripped(binary), 0o755)
    tree.file("etc/spillway/spillway.toml", (HERE / "spillway.toml").read_bytes())
    tree.file("usr/share/doc/spillway/copyright", (ROOT / "deploy/debian/copyright").read_bytes())
    if sbom:
        tree.file("usr/share/doc/spillway/spillway.cdx.json", sbom.read_bytes())
    return tree.tar()


def shared_libraries(binary):
    """Where the program's libraries are on this machine; none if it is linked statically."""
    done = subprocess.run(["ldd", str(binary)], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"LC_ALL": "C"})
    if "statically linked" in done.stdout or "not a dynamic executable" in done.stdout:
        return []
    if done.returncode or "not found" in done.stdout:
        sys.exit(f"image: {binary} can't be run on this machine: {done.stdout.strip()}")
    libraries = set(re.findall(r"(/\S+) \(0x", done.stdout))
    c_library = next(library for library in libraries if library.endswith("/libc.so.6"))
    beside = (str(pathlib.Path(c_library).with_name(name)) for name in RESOLVER)
    return sorted(libraries | {library for library in beside if os.path.exists(library)})


def certificates(ca):
    if ca:
        return ca.read_bytes()
    found = sorted(CERTIFICATES.rglob("*.crt"))
    if not found:
        sys.exit(f"image: no CA certificates in {CERTIFICATES}: install Debian's package ca-certificates, or name a file with --ca")
    return b"".join(file.read_bytes().rstrip(b"\n") + b"\n" for file in found)


def describe_packages(tree, libraries, ca):
    """Which Debian packages the files are from, where scanners look for it, and their licences."""
    if not shutil.which("dpkg-query"):
        return
    tree.file("etc/os-release", pathlib.Path("/etc/os-release").read_bytes())
    packages = {package for library in libraries for package in [package_of(library)] if package}
    for package in sorted(packages if ca else packages | {"ca-certificates"}):
        name = package.partition(":")[0]
        tree.file(f"var/lib/dpkg/status.d/{name}", output("dpkg-query", "--status", package))
        copyright = pathlib.Path(f"/usr/share/doc/{name}/copyright")
        if copyright.exists():
            tree.file(f"usr/share/doc/{name}/copyright", copyright.read_bytes())


def package_of(library):
    """dpkg knows a file by the name that its package gave it, with or without /usr."""
    for path in (library, os.path.realpath(library), os.path.realpath(library).removeprefix("/usr"), f"/usr{library}"):
        found = subprocess.run(["dpkg-query", "--search", path], text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        # "libc6:amd64: /path", or who has diverted the path to another.
        for line in found.stdout.splitlines():
            if not line.startswith("diversion by "):
                return line.rpartition(": ")[0].partition(", ")[0]
    return None


def stripped(binary):
    with tempfile.TemporaryDirectory() as folder:
        small = pathlib.Path(folder) / "spillway"
        subprocess.run([os.environ.get("STRIP", "strip"), "--strip-all", "-o", str(small), str(binary)], check=True)
        return small.read_bytes()


def architecture(binary):
    """ELF's e_machine, at offset 18."""
    with binary.open("rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF":
        sys.exit(f"image: {binary} is no Linux program")
    machine = int.from_bytes(head[18:20], "little")
    return ARCHITECTURES.get(machine) or sys.exit(f"image: {binary} is for an unknown processor (ELF machine {machine})")


def layer(comment, unpacked, level):
    return {"bytes": gzip.compress(unpacked, level, mtime=0), "diff_id": digest(unpacked), "comment": comment}


def write_archive(archive, layers, architecture, version):
    blobs = {}

    def blob(media_type, data, **more):
        blobs[digest(data)] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}

    descriptors = [blob(LAYER, layer["bytes"]) for layer in layers]
    labels = {f"org.opencontainers.image.{name}": value for name, value in labelled(version).items()}
    config = blob(CONFIG, encoded({
        "created": CREATED, "architecture": architecture, "os": "linux",
        "config": {
            "User": f"{UID}:{UID}",
            "ExposedPorts": {"8080/tcp": {}},
            "Env": ["PATH=/usr/bin"],
            "Entrypoint": ["/usr/bin/spillway"],
            "Cmd": ["run", "-c", "/etc/spillway/spillway.toml"],
            "Volumes": {"/var/lib/spillway": {}},
            "WorkingDir": "/var/lib/spillway",
            "StopSignal": "SIGTERM",
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [layer["diff_id"] for layer in layers]},
        "history": [{"created": CREATED, "created_by": "deploy/image/build.py", "comment": layer["comment"]} for layer in layers],
    }))
    manifest = blob(MANIFEST, encoded({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": descriptors, "annotations": labels}),
                    platform={"architecture": architecture, "os": "linux"},
                    annotations={"org.opencontainers.image.ref.name": version, "io.containerd.image.name": f"spillway:{version}"})
    place = "blobs/sha256/{}".format
    files = {place(name.removeprefix("sha256:")): data for name, data in blobs.items()}
    files["oci-layout"] = encoded({"imageLayoutVersion": "1.0.0"})
    files["index.json"] = encoded({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]})
    files["manifest.json"] = encoded([{
        "Config": place(config["digest"].removeprefix("sha256:")), "RepoTags": [f"spillway:{version}"],
        "Layers": [place(descriptor["digest"].removeprefix("sha256:")) for descriptor in descriptors],
    }])
    tree = Tree()
    for path, data in files.items():
        tree.file(path, data)
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(tree.tar())


def labelled(version):
    labels = {
        "title": "spillway",
        "description": "A self-hosted AI gateway: fills provisioned capacity first and spills over before the caller notices",
        "version": version, "licenses": "Apache-2.0", "created": CREATED,
    }
    # Not where files were changed since: then it isn't that revision.
    if shutil.which("git") and (ROOT / ".git").exists() and not output("git", "-C", str(ROOT), "status", "--porcelain"):
        labels["revision"] = output("git", "-C", str(ROOT), "rev-parse", "HEAD").strip()
    return labels


def encoded(value):
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def output(*argv):
    return subprocess.run(argv, check=True, text=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    main()
