"""Variants of the package under test: a later version, and a later one that doesn't start."""

import pathlib
import re
import subprocess

# A later version whose default config is another one too.
LATER = "99.0.0-1"
NEW_LINE = "# A line that only the later version has.\n"

# `run` fails, everything else works: what a bad release looks like.
BROKEN = """#!/bin/sh
if [ "$1" = run ]; then echo "spillway: broken on purpose" >&2; exit 1; fi
exec /usr/lib/spillway/spillway "$@"
"""


def later(deb, folder, broken=False):
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "-R", str(deb), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", f"Version: {LATER}", control.read_text(), flags=re.MULTILINE))
    config = tree / "etc/spillway/spillway.toml"
    config.write_text(config.read_text() + NEW_LINE)
    if broken:
        moved = tree / "usr/lib/spillway/spillway"
        moved.parent.mkdir()
        binary = (tree / "usr/bin/spillway").rename(moved).parents[2] / "bin/spillway"
        binary.write_text(BROKEN)
        binary.chmod(0o755)
    made = folder / "later.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", str(tree), str(made)], check=True, stdout=subprocess.DEVNULL)
    return pathlib.Path(made)
