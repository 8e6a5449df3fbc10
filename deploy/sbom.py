#!/usr/bin/env python3
"""What is linked into the binary, as CycloneDX 1.6: python3 deploy/sbom.py > spillway.cdx.json

From `cargo metadata` and Cargo.lock: every crate that `spillway` reaches without its tests and build
scripts, with licence and the registry's SHA-256. C sources (SQLite, zlib-ng, jemalloc, ring) ride in
their crates. The same inputs give the same bytes; SOURCE_DATE_EPOCH sets the time.
"""

import datetime
import json
import os
import pathlib
import subprocess
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[1]
TARGET = os.environ.get("SBOM_TARGET", "x86_64-unknown-linux-gnu")
PROGRAM = "spillway"


def main():
    metadata = json.loads(subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET],
        cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    edges = linked(metadata)
    checksums = registry_checksums()
    program = next(id for id in edges if packages[id]["name"] == PROGRAM)
    components = [component(packages[id], checksums) for id in edges if id != program]
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": timestamp(),
            "lifecycles": [{"phase": "build"}],
            "component": component(packages[program], checksums) | {"type": "application"},
            "properties": [{"name": "cdx:rustc:sbom:target:triple", "value": TARGET}],
        },
        "components": sorted(components, key=lambda c: c["bom-ref"]),
        "dependencies": sorted(
            ({"ref": purl(packages[id]), "dependsOn": sorted(purl(packages[to]) for to in edges[id])} for id in edges),
            key=lambda d: d["ref"]),
    }
    # Named after what it says, so that the same list has the same name.
    bom["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bom, sort_keys=True))}"
    print(json.dumps(bom, indent=1, ensure_ascii=False))


def linked(metadata):
    """package id -> ids of what it links, for the program and everything below it"""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    names = {package["id"]: package["name"] for package in metadata["packages"]}
    waiting = [id for id in metadata["workspace_members"] if names[id] == PROGRAM]
    edges = {}
    while waiting:
        id = waiting.pop()
        if id in edges:
            continue
        edges[id] = {dep["pkg"] for dep in nodes[id]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])}
        waiting.extend(edges[id])
    return edges


def component(package, checksums):
    found = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
        "scope": "required",
    }
    if package["description"]:
        found["description"] = " ".join(package["description"].split())
    if package["license"]:
        # Cargo still allows the slash, SPDX does not.
        found["licenses"] = [{"expression": " OR ".join(part.strip() for part in package["license"].split("/"))}]
    if checksum := checksums.get((package["name"], package["version"])):
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"]:
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version'].replace('+', '%2B')}"


def registry_checksums():
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    return {(p["name"], p["version"]): p["checksum"] for p in lock["package"] if "checksum" in p}


def timestamp():
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    when = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC) if epoch else datetime.datetime.now(datetime.UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    main()
