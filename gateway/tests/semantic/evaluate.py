"""How often the semantic cache helps, and how often it is wrong, on pairs written for it, with a real model.

Every first question is asked and answered; then every second one. At threshold 0 the gateway gives the nearest known
answer that its particulars allow, with its score: what any threshold would do can be read from that.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "clients"))

import embedder
from ports import free_port, wait_for

ROOT = HERE.parents[2]
SPILLWAY = ROOT / "target/debug/spillway"
# What plugins.cache.semantic.threshold is by default.
DEFAULT = float(sys.argv[1]) if len(sys.argv) > 1 else 0.95

CONFIG = """
[server]
listen = ["127.0.0.1:{port}"]
admin = "127.0.0.1:{admin}"

[log]
access = "off"

[[backends]]
name = "chat"
kind = "openai"
url = "http://127.0.0.1:{chat}"

[[backends]]
name = "minilm"
kind = "openai"
url = "http://127.0.0.1:{embedder}"

[[pools]]
name = "chat"
models = ["m"]
members = [{{ backend = "chat" }}]

[[pools]]
name = "embeddings"
models = ["minilm"]
members = [{{ backend = "minilm" }}]

[plugins.cache]
exact = {{}}

[plugins.cache.semantic]
embeddings = "embeddings"
threshold = 0.0
limit = "30s"
"""


def ask(port, text):
    """The id of the answer and its score, if it is a similar question's."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        score = answer.headers.get("x-spillway-cache-score")
        return json.load(answer)["id"], float(score) if score else None, answer.headers["x-spillway-cache"]


def scores(port, pairs):
    """For every second question: whether it means the same, whether it got the first one's answer, and the score."""
    found = []
    for kind, first, second in pairs:
        known, _, result = ask(port, first)
        assert result in ("miss", "semantic", "hit")
        given, score, result = ask(port, second)
        found.append((kind, given == known, score if result == "semantic" else None, first, second))
    return found


def main():
    pairs = json.loads((HERE / "pairs.json").read_text())
    all_pairs = [(kind, *pair) for kind in ("same", "different") for pair in pairs[kind]]
    ports = {name: free_port() for name in ("port", "admin", "chat")}
    ports["embedder"] = embedder.serve(embedder.Model())
    found = []
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory) / "gateway.toml"
        config.write_text(CONFIG.format(**ports))
        # A gateway for each pair: what others asked must not stand between the two.
        mock = subprocess.Popen([SPILLWAY, "mock", "--listen", f"127.0.0.1:{ports['chat']}"], stdout=subprocess.DEVNULL)
        try:
            wait_for(ports["chat"])
            for pair in all_pairs:
                gateway = subprocess.Popen([SPILLWAY, "run", "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                try:
                    wait_for(ports["port"])
                    found += scores(ports["port"], [pair])
                finally:
                    gateway.kill()
                    gateway.wait()
        finally:
            mock.kill()
            mock.wait()
    same = [score for kind, right, score, *_ in found if kind == "same"]
    different = [score for kind, right, score, *_ in found if kind == "different"]
    print(f"{len(same)} pairs that mean the same, {len(different)} that don't; particulars tell "
          f"{sum(score is None for score in different)} of these apart, and {sum(score is None for score in same)} of the others")
    print(f"{'threshold':>10}{'hits':>8}{'wrong':>8}")
    rates = {}
    for threshold in [0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.98, DEFAULT]:
        hits = sum(score is not None and score >= threshold for score in same) / len(same)
        wrong = sum(score is not None and score >= threshold for score in different) / len(different)
        rates[threshold] = wrong
        print(f"{threshold:>10}{hits:>8.0%}{wrong:>8.1%}")
    nearest = sorted((score, first, second) for kind, _, score, first, second in found if kind == "different" and score)[-5:]
    print("nearest of those that differ:", *(f"\n  {score:.3f}  {first} / {second}" for score, first, second in reversed(nearest)))
    missed = [(first, second) for kind, _, score, first, second in found if kind == "same" and score is None]
    print("told apart though they mean the same:", *(f"\n  {first} / {second}" for first, second in missed))
    assert rates[DEFAULT] == 0, "the default threshold gives wrong answers"


main()
