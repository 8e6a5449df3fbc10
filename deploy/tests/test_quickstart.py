"""docs/quickstart.md, run from its text: every ```sh block in its order, in a clean Debian with systemd.

SPILLWAY_DEB names the package. As root. What `apt-get install` and `pip install` fetch on the page lies in the root
already: it has no network but its own.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import machine
import pytest

DEB = os.environ.get("SPILLWAY_DEB", "")
PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs/quickstart.md"
# What the page installs from Debian.
PACKAGES = [*machine.BOOTED, "prometheus", "python3-venv"]
# Its service begins with the package, and so not before the page.
LATER = ["prometheus"]
WHEELS = machine.CACHE / "wheels"


def steps(text):
    """(heading, commands, lines of the output) of each block of commands."""
    heading, found = "", []
    for part in re.finditer(r"^## ([^\n]+)$|^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        title, kind, block = part.groups()
        if title:
            heading = title
        elif kind == "sh":
            found.append((heading, block, []))
        elif kind == "text":
            found[-1][2].extend(block.splitlines())
    return found


def missing(wanted, output):
    """The lines that the page shows and the output has not. `…` stands for any text, blanks for any number of them."""
    def pattern(line):
        parts = [re.escape(part).replace("\\ ", r"\s+") for part in line.strip().split("…")]
        return re.compile(".*".join(parts), re.IGNORECASE)

    lines = [line.strip() for line in output.splitlines()]
    return [line for line in wanted if not any(pattern(line).fullmatch(seen) for seen in lines)]


def wheels():
    """OpenAI's client for the root's Python, which has no network."""
    if not any(WHEELS.glob("openai-*.whl")):
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--python-version", "3.11", "--dest", str(WHEELS), "openai"],
            check=True)
    return WHEELS


@pytest.fixture
def debian(tmp_path):
    machine.needed("debootstrap", "systemd-nspawn", "nsenter", "dpkg-deb")
    debian = machine.Booted(tmp_path, machine.base("quickstart", PACKAGES))
    for folder in debian.path("/etc/systemd/system").glob("*.wants"):
        for service in LATER:
            # A link leads into the root: from outside it seems to lead nowhere.
            (folder / f"{service}.service").unlink(missing_ok=True)
    shutil.copytree(wheels(), debian.path("/var/cache/wheels"))
    debian.path("/etc/pip.conf").write_text("[global]\nno-index = true\nfind-links = /var/cache/wheels\n")
    shutil.copy(DEB, debian.path("/root/spillway.deb"))
    with debian:
        yield debian


@pytest.mark.skipif(not DEB, reason="SPILLWAY_DEB names no package")
def test_every_step_of_the_page_does_what_it_shows(debian):
    done = 0
    for heading, commands, wanted in steps(PAGE.read_text()):
        print(f"== {heading}\n{commands}")
        output = debian.run("bash", "-euo", "pipefail", "-c", f"cd /root\n{commands}")
        print(output)
        assert missing(wanted, output) == [], f"{heading}: the page shows what the commands don't print\n{commands}\n{output}"
        done += 1
    assert done >= 12
    # What `init` wrote goes with the package: a drop-in for keys that are gone would keep a new one from starting.
    debian.run("dpkg", "--purge", "spillway")
    left = debian.run("find", "/etc", "/var/lib", "-iname", "*spillway*", "-not", "-path", "/etc/prometheus/*").split()
    assert left == []


def test_the_reader_of_the_page_finds_blocks_and_misses_lines():
    """The test above can fail."""
    text = "## A\n```sh\necho 1\n```\nwords\n```text\n1\n```\n## B\n```sh\necho 2\n```\n"
    assert steps(text) == [("A", "echo 1\n", ["1"]), ("B", "echo 2\n", [])]
    assert missing(["a …c", "x"], "a   b c\nxx\n") == ["x"]
