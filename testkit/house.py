#!/usr/bin/env python3
"""Prints how the code is built as a house: circles of imports, what takes the whole request context, sizes of files.

With --check it fails where a figure is worse than the bound below it.
"""

import pathlib
import re
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
CRATES = {"spillway": ROOT / "gateway/src", "spillway_plugins": ROOT / "plugins/src", "spillway_testkit": ROOT / "testkit/src"}
CONTEXT = ROOT / "gateway/src/proxy/ctx.rs"
# Folders of pure logic, and the parts of their crate that each may name. None may do I/O.
PURE = {"gateway/src/balance": {"balance", "clock", "shares"}, "gateway/src/import": {"import"}, "gateway/src/init": {"balance", "init", "safe_url"}, "plugins/src": None}
IO = re.compile(r"\b(?:pingora\w*|tokio\w*|hyper\w*|reqwest|redis|rusqlite|nix|socket2|std::(?:fs|net|process|thread|env|io::std\w+))::\w+")
# What the code has today; it may only get better.
BOUNDS = {
    "circles between files": 0,
    "files in circles": 0,
    "circles between folders": 0,
    "fields of RequestCtx": 12,
    "functions that take RequestCtx": 15,
    "impure names in pure folders": 0,
    "median lines": 120,
    "p90 lines": 300,
    "longest file": 500,
}


def without_comments(text):
    return re.sub(r"//[^\n]*", "", text)


def without_tests(text):
    """The text before its inline tests: they stand at the end."""
    return text.split("#[cfg(test)]\nmod tests {")[0]


def modules(root):
    """Module path (a tuple) -> file."""
    found = {}
    for file in sorted(root.rglob("*.rs")):
        parts = list(file.relative_to(root).with_suffix("").parts)
        if parts[-1] in ("mod", "lib", "main"):
            parts.pop()
        if "tests" in parts or file.name == "main.rs":
            continue
        found[tuple(parts)] = file
    return found


def expanded(tree):
    """`a::{b, c::{d}}` as `a::b`, `a::c::d`."""
    tree = tree.strip()
    brace = tree.find("{")
    if brace < 0:
        return [tree]
    depth, start, parts = 0, brace + 1, []
    for at in range(brace, len(tree)):
        depth += {"{": 1, "}": -1}.get(tree[at], 0)
        if (tree[at] == "," and depth == 1) or (tree[at] == "}" and depth == 0):
            parts.append(tree[start:at])
            start = at + 1
    return [tree[:brace] + rest for part in parts if part.strip() for rest in expanded(part)]


def used(text):
    """The paths of all `use` in a text without comments."""
    return [path for tree in re.findall(r"\buse\s+([^;]+);", text) for path in expanded(tree)]


def imports(text, here, known):
    """The modules that a file names."""
    text = re.sub(r"\bpub\(in [^)]*\)", "pub", text)
    # A re-export of a part is no import.
    text = re.sub(r"\bpub(?:\([a-z]+\))?\s+use\s+[^;]+;", "", without_comments(without_tests(text)))
    paths = used(text)
    paths += re.findall(r"\b(?:crate|super)(?:::\w+)+", re.sub(r"\buse\s+[^;]+;", "", text))
    # A part is also used by its name alone.
    paths += [f"{part}::x" for part in set(re.findall(r"(?<![:\w])(\w+)::", re.sub(r"\buse\s+[^;]+;", "", text))) if (*here, part) in known]
    for path in paths:
        words = path.split(" as ")[0].strip().split("::")
        at = list(here)
        if words[0] == "crate":
            at, words = [], words[1:]
        elif words[0] == "super":
            while words and words[0] == "super":
                at, words = at[:-1], words[1:]
        elif words[0] == "self":
            words = words[1:]
        elif tuple(at + words[:1]) not in known:
            continue
        while words and tuple(at + words[:1]) in known:
            at.append(words.pop(0))
        if tuple(at) in known and tuple(at) != here:
            yield tuple(at)


def circles(graph):
    """Strongly connected components of more than one node (Tarjan)."""
    index, low, stack, on, found = {}, {}, [], set(), []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on.add(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in on:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = []
            while True:
                last = stack.pop()
                on.discard(last)
                component.append(last)
                if last == node:
                    break
            if len(component) > 1:
                found.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def impure(folder, parts):
    """What the files of a pure folder name, and may not."""
    for file in sorted((ROOT / folder).rglob("*.rs")):
        if "tests" in file.relative_to(ROOT).with_suffix("").parts:
            continue
        text = without_comments(without_tests(file.read_text()))
        paths = used(text)
        paths += re.findall(r"(?<![:\w])\w+(?:::\w+)+", re.sub(r"\buse\s+[^;]+;", "", text))
        for path in paths:
            words = path.split("::")
            if IO.match(path) or (parts and words[0] == "crate" and words[1] not in parts):
                yield f"{file.relative_to(ROOT)} names {path}"


def main():
    sys.setrecursionlimit(10_000)
    figures, told, lengths = {}, [], []
    by_file, by_folder = [], []
    for crate, root in CRATES.items():
        known = modules(root)
        graph = {here: set(imports(file.read_text(), here, known)) for here, file in known.items()}
        by_file += [(crate, circle) for circle in circles(graph)]
        folders = {}
        for here, others in graph.items():
            for other in others:
                if here[:1] != other[:1] and here and other:
                    folders.setdefault(here[:1], set()).add(other[:1])
        by_folder += [(crate, circle) for circle in circles(folders)]
        lengths += [len(file.read_text().splitlines()) for file in known.values()]
    figures["circles between files"] = len(by_file)
    figures["files in circles"] = sum(len(circle) for _, circle in by_file)
    figures["circles between folders"] = len(by_folder)
    context = re.search(r"pub struct RequestCtx \{(.*?)\n\}", CONTEXT.read_text(), re.S)
    figures["fields of RequestCtx"] = len(re.findall(r"^    (?:pub(?:\([a-z]+\))? )?\w+:", context.group(1), re.M)) if context else 0
    takes = sum(
        len(re.findall(r"\bfn\s+\w+[^{;]*?:\s*&(?:mut )?RequestCtx\b", without_comments(file.read_text())))
        for file in (ROOT / "gateway/src").rglob("*.rs")
    )
    figures["functions that take RequestCtx"] = takes
    foreign = [line for folder, parts in PURE.items() for line in impure(folder, parts)]
    told += foreign
    figures["impure names in pure folders"] = len(foreign)
    figures["median lines"] = int(statistics.median(lengths))
    figures["p90 lines"] = int(statistics.quantiles(lengths, n=10)[-1])
    figures["longest file"] = max(lengths)
    for kind, all_circles in (("files", by_file), ("folders", by_folder)):
        for crate, circle in all_circles:
            told.append(f"circle of {kind} in {crate}: " + ", ".join("::".join(name) or "the root" for name in circle))
    worse = [name for name, value in figures.items() if value > BOUNDS[name]]
    for line in told:
        print(line)
    for name, value in figures.items():
        print(f"{name}: {value} (at most {BOUNDS[name]})" + (" TOO MANY" if name in worse else ""))
    sys.exit(1 if worse and "--check" in sys.argv else 0)


if __name__ == "__main__":
    main()
