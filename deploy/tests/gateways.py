"""A gateway and mocks of Azure OpenAI behind it, for the tests of the monitoring."""

import contextlib
import hashlib
import json
import os
import pathlib
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPILLWAY = os.environ.get("SPILLWAY", str(ROOT / "target/debug/spillway"))
KEY, LIMITED, SHADOWED = "monitoring-test-key", "monitoring-test-key-limited", "monitoring-test-key-shadowed"


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


# Small, and back soon after an outage.
PLAIN = """
[server]
listen = ["127.0.0.1:{port}"]
admin = "127.0.0.1:{admin}"
state_dir = "{folder}/state"

[log]
access = "off"

[[backends]]
name = "ptu"
kind = "azure-openai"
url = "http://127.0.0.1:{first}"

[[backends]]
name = "payg"
kind = "azure-openai"
url = "http://127.0.0.1:{second}"

[[pools]]
name = "chat"
models = ["gpt-4o"]
members = [{{ backend = "ptu", priority = 1 }}, {{ backend = "payg", priority = 2 }}]

[pools.circuit]
failures = 1
trip = "1s"

[plugins.auth]
required = true

[[consumers]]
name = "tests"
keys = [{{ sha256 = "{key}" }}]
"""

# With everything that has metrics of its own: TLS, an identity, issuers of tokens, limits, a last resort.
FULL = PLAIN.replace("[log]", 'admin_token = {{ env = "MONITORING_SECRET" }}\n\n[log]', 1) + """
[[consumers]]
name = "limited"
keys = [{{ sha256 = "{limited}" }}]

[consumers.limits]
token_quota = {{ tokens = 400, period = "year" }}

[[consumers]]
name = "shadowed"
keys = [{{ sha256 = "{shadowed}" }}]

[consumers.limits]
requests_per_minute = 1
shadow = true

[[backends]]
name = "identified"
kind = "azure-openai"
url = "http://127.0.0.1:{nobody}"
auth = {{ type = "client-credentials", tenant_id = "t", client_id = "c", secret = {{ env = "MONITORING_SECRET" }}, authority = "https://127.0.0.1:{nobody}" }}

[[backends]]
name = "sorry"
kind = "mock"
reply = "Later."

[[pools]]
name = "nobody"
models = ["nobody"]
members = [{{ backend = "identified" }}, {{ backend = "sorry", priority = 9 }}]

[plugins.auth.jwt]
issuer = "https://127.0.0.1:{nobody}/tokens"
audiences = ["a"]

[server.sign_in]
issuer = "https://127.0.0.1:{nobody}/people"
client_id = "c"
url = "http://localhost:{admin}"
everyone = "viewer"

[server.tls]
cert = "{folder}/cert.pem"
key = "{folder}/key.pem"
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, condition, seconds=30):
    """Polls until `condition` holds something, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class Programs:
    """Processes that end with the test."""

    def __init__(self, folder):
        self.folder = folder
        self.all = []

    def start(self, name, *command, port):
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"MONITORING_SECRET": "secret"})
        self.all.append(process)

        def ready():
            assert process.poll() is None, (self.folder / f"{name}.log").read_text()
            return listens(port)

        until(f"{name} listens", ready)
        return process

    def stop(self, process):
        process.kill()
        process.wait()

    def stop_all(self):
        for process in self.all:
            self.stop(process)


class Gateway:
    """One that runs, and its two backends."""

    def __init__(self, folder, config=PLAIN):
        self.folder, self.programs = folder, Programs(folder)
        self.port, self.admin, self.first, self.second, self.nobody = (free_port() for _ in range(5))
        self.scheme = "https" if config is FULL else "http"
        text = config.format(
            folder=folder, port=self.port, admin=self.admin, first=self.first, second=self.second, nobody=self.nobody,
            key=digest(KEY), limited=digest(LIMITED), shadowed=digest(SHADOWED),
        )
        (folder / "gateway.toml").write_text(text)
        if config is FULL:
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost",
                 "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
                check=True, capture_output=True,
            )

    def start(self):
        self.start_backends()
        self.process = self.programs.start("gateway", SPILLWAY, "run", "-c", str(self.folder / "gateway.toml"), port=self.port)
        until("the admin listener", lambda: listens(self.admin))
        return self

    def start_backends(self):
        self.backends = [
            self.programs.start(name, SPILLWAY, "mock", "--listen", f"127.0.0.1:{port}", "--name", name, port=port)
            for name, port in (("ptu", self.first), ("payg", self.second))
        ]

    def stop_backends(self):
        for process in self.backends:
            self.programs.stop(process)

    def ask(self, model="gpt-4o", key=KEY):
        """The status of an answer."""
        body = json.dumps({"model": model, "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}).encode()
        request = urllib.request.Request(
            f"{self.scheme}://127.0.0.1:{self.port}/v1/chat/completions", body, {"content-type": "application/json", "api-key": key}
        )
        try:
            with urllib.request.urlopen(request, timeout=20, context=ssl._create_unverified_context()) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def metrics(self):
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}/metrics", headers={"authorization": "Bearer secret"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode()


@contextlib.contextmanager
def running(folder, config=PLAIN):
    gateway = Gateway(folder, config)
    try:
        yield gateway.start()
    finally:
        gateway.programs.stop_all()
