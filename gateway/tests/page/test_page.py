"""The status page of a real gateway, in a real browser: `page.test.mjs` looks at it while there is traffic."""

import os
import pathlib
import shutil
import subprocess
import sys
import threading
import urllib.request

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "gateway/tests/clients"))
from ports import free_port, wait_for  # noqa: E402

SPILLWAY = os.environ.get("SPILLWAY", str(ROOT / "target/debug/spillway"))
BODY = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}'

CONFIG = """
[server]
listen = ["127.0.0.1:{port}"]
admin = "127.0.0.1:{admin}"
state_dir = "{state}"
allow_literal_secrets = true
{token}

[log]
access = "off"

[[backends]]
name = "ptu-sweden"
kind = "azure-openai"
url = "http://127.0.0.1:{ptu}"
location = "swedencentral"

[[backends]]
name = "payg-sweden"
kind = "azure-openai"
url = "http://127.0.0.1:{payg}"
location = "swedencentral"

[[backends]]
name = "payg-france"
kind = "azure-openai"
url = "http://127.0.0.1:{payg}"
location = "francecentral"

[[backends]]
name = "sorry"
kind = "mock"
reply = "Please try again in a few minutes."

[[pools]]
name = "chat"
models = ["gpt-4o"]
members = [
  {{ backend = "ptu-sweden", priority = 1 }},
  {{ backend = "payg-sweden", priority = 2, weight = 70 }},
  {{ backend = "payg-france", priority = 2, weight = 30 }},
  {{ backend = "sorry", priority = 9 }},
]

[pools.limits]
requests_per_minute = 1_000_000
shadow = true

[[groups]]
name = "acme"
limits = {{ tokens_per_minute = 400_000, budget = {{ usd = 5000.0, period = "month" }} }}

[[groups]]
name = "search"
parent = "acme"
guaranteed = "20%"
limits = {{ request_quota = {{ requests = 10_000, period = "day" }} }}

[[consumers]]
name = "finder"
group = "search"
keys = [{{ sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" }}]

[plugins.auth]
required = false

[prices]
unknown = "free"
"""


class Scene:
    """A gateway with a PTU that is too small, two more deployments, and callers."""

    def __init__(self, folder, token, more=lambda ports: ""):
        self.ports = {name: free_port() for name in ("port", "admin", "ptu", "payg")}
        admin_token = f'admin_token = "{token}"' if token else ""
        config = folder / "spillway.toml"
        config.write_text(CONFIG.format(**self.ports, state=folder / "state", token=admin_token) + more(self.ports))
        listen = "127.0.0.1:{}".format
        self.processes = [
            subprocess.Popen([SPILLWAY, "mock", "--listen", listen(self.ports["ptu"]), "--ptu", "20000"]),
            subprocess.Popen([SPILLWAY, "mock", "--listen", listen(self.ports["payg"])]),
        ]
        wait_for(self.ports["ptu"])
        wait_for(self.ports["payg"])
        self.processes.append(subprocess.Popen([SPILLWAY, "run", "-c", str(config)]))
        wait_for(self.ports["port"])
        wait_for(self.ports["admin"])
        self.over = threading.Event()
        self.callers = [threading.Thread(target=self.call) for _ in range(2)]
        for caller in self.callers:
            caller.start()

    def call(self):
        url = f"http://127.0.0.1:{self.ports['port']}/v1/chat/completions"
        while not self.over.wait(0.02):
            request = urllib.request.Request(url, BODY, {"content-type": "application/json"})
            urllib.request.urlopen(request, timeout=10).read()

    def close(self):
        self.over.set()
        for caller in self.callers:
            caller.join()
        for process in reversed(self.processes):
            process.terminate()
            process.wait()


@pytest.mark.parametrize("token", [None, "a-token-for-the-admin-listener"])
def test_the_page_in_a_browser(tmp_path, token):
    node = shutil.which("node", path=str(pathlib.Path(sys.executable).parent)) or shutil.which("node")
    scene = Scene(tmp_path, token)
    try:
        environment = dict(os.environ, STATUS_URL=f"http://127.0.0.1:{scene.ports['admin']}/")
        if token:
            environment["STATUS_TOKEN"] = token
        # With a token, what has to do with it is enough.
        some = ["--test-name-pattern", "token|drain"] if token else []
        tests = subprocess.run([node, "--test", *some, str(HERE / "page.test.mjs")], env=environment, capture_output=True, text=True, timeout=300)
        assert tests.returncode == 0, tests.stdout + tests.stderr
    finally:
        scene.close()
