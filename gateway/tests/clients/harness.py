"""Starts a gateway with two mocks of Azure OpenAI behind it: the first always throttles.

Used by the Python tests, and as a program by the Node tests: it prints the gateway's URL and runs
until its standard input closes.
"""

import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from ports import free_port, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[3]
SPILLWAY = os.environ.get("SPILLWAY", str(ROOT / "target/debug/spillway"))
REPLY = "A spillway lets water run off where it does no harm."
KEY = "client-test-key"
LIMITED = "client-test-key-of-a-limited-consumer"
CACHED = "client-test-key-of-a-consumer-with-a-cache"

CONFIG = """
[server]
listen = ["127.0.0.1:{port}"]
admin = "127.0.0.1:{admin}"

[log]
access = "off"

[[backends]]
name = "ptu"
kind = "azure-openai"
api = "dated"
url = "http://127.0.0.1:{first}"

[[backends]]
name = "payg"
kind = "azure-openai"
url = "http://127.0.0.1:{second}"

[[pools]]
name = "all"
models = ["gpt-4o", "text-embedding-3-small"]
members = [{{ backend = "ptu", priority = 1 }}, {{ backend = "payg", priority = 2 }}]

[[backends]]
name = "slow"
kind = "azure-openai"
url = "http://127.0.0.1:{slow}"

[[pools]]
name = "slow"
models = ["slow"]
members = [{{ backend = "slow" }}]

[[consumers]]
name = "limited"
keys = [{{ sha256 = "{limited}" }}]
cache = {{ enabled = false }}

[consumers.limits]
concurrent_requests = 1
tokens_per_minute = 100_000

[[consumers]]
name = "tests"
models = ["gpt-4o", "text-embedding-3-small"]
keys = [{{ sha256 = "{digest}" }}]
claims = ["tests-application"]
cache = {{ enabled = false }}

[[consumers]]
name = "cached"
keys = [{{ sha256 = "{cached}" }}]

[plugins.cache]
exact = {{ ttl = "10m" }}

[plugins.auth.jwt]
issuer = "http://127.0.0.1:{issuer}"
audiences = ["api://spillway"]
"""

ALWAYS_THROTTLED = """
name = "ptu"
listen = "127.0.0.1:{port}"
[default]
fault_rate = 1.0
fault = "throttle=1"
"""


class Issuer:
    """An OIDC issuer: metadata, one public key, and tokens that PyJWT signs."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key())) | {"kid": "1", "use": "sig"}
        pages = {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            "/keys": {"keys": [jwk]},
        }

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(pages.get(self.path, {})).encode()
                self.send_response(200 if self.path in pages else 404)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def token(self, **claims):
        now = int(time.time())
        usual = {"iss": self.url, "aud": "api://spillway", "azp": "tests-application", "nbf": now, "exp": now + 600}
        return jwt.encode(usual | claims, self.key, algorithm="RS256", headers={"kid": "1"})


ISSUER = None


def starter(stack):
    """Starts Spillway's commands; they are killed when the stack is left."""

    def run(*arguments):
        process = subprocess.Popen([SPILLWAY, *arguments], stdout=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.kill)

    return run


@contextlib.contextmanager
def gateway():
    """Yields (gateway's URL, admin's URL)."""
    global ISSUER
    port, admin, first, second, slow, issuer = (free_port() for _ in range(6))
    ISSUER = Issuer(issuer)
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        folder = pathlib.Path(directory)
        (folder / "throttled.toml").write_text(ALWAYS_THROTTLED.format(port=first))
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        limited = hashlib.sha256(LIMITED.encode()).hexdigest()
        cached = hashlib.sha256(CACHED.encode()).hexdigest()
        ports = {"slow": slow, "port": port, "admin": admin, "first": first, "second": second, "issuer": issuer}
        (folder / "gateway.toml").write_text(CONFIG.format(digest=digest, limited=limited, cached=cached, **ports))

        run = starter(stack)
        run("mock", "-c", str(folder / "throttled.toml"))
        run("mock", "--listen", f"127.0.0.1:{second}", "--name", "payg", "--reply", REPLY, "--per-token", "1ms")
        run("mock", "--listen", f"127.0.0.1:{slow}", "--name", "slow", "--reply", REPLY, "--per-token", "100ms")
        wait_for(first)
        wait_for(slow)
        wait_for(second)
        run("run", "-c", str(folder / "gateway.toml"))
        wait_for(port)
        yield f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"


def throttled_attempts(admin):
    """How often the first target said 429."""
    text = urllib.request.urlopen(f"{admin}/metrics").read().decode()
    lines = [line for line in text.splitlines() if line.startswith("spillway_attempts_total{") and 'outcome="throttled"' in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


if __name__ == "__main__":
    with gateway() as (url, admin):
        print(url, admin, KEY, CACHED, flush=True)
        sys.stdin.read()
