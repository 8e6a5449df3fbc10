"""The page where people make their own keys, in a real browser: `me.test.mjs` signs in and works with it."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "gateway/tests/clients"))
from ports import free_port, wait_for  # noqa: E402

SPILLWAY = os.environ.get("SPILLWAY", str(ROOT / "target/debug/spillway"))

PEOPLE = {
    "Kim Park": {"sub": "kim-subject", "name": "Kim Park", "groups": ["crm-team", "reports-team"]},
    "Noor Ali": {"sub": "noor-subject", "name": "Noor Ali"},
}

CONFIG = """
[server]
listen = ["127.0.0.1:{port}"]
admin = "127.0.0.1:{admin}"
admin_token = "a-token-for-the-admin-listener"
state_dir = "{state}"
allow_literal_secrets = true

[server.sign_in]
issuer = "http://127.0.0.1:{issuer}"
client_id = "gateway-app"
url = "http://localhost:{admin}"
everyone = "member"

[server.portal]
listen = "127.0.0.1:{portal}"
url = "http://localhost:{portal}"
gateway_url = "http://127.0.0.1:{port}"
contact = "the platform team (ai@contoso.example)"

[log]
access = "off"

[[backends]]
name = "sweden"
kind = "azure-openai"
url = "http://127.0.0.1:{backend}"

[[pools]]
name = "chat"
models = ["gpt-4o", "gpt-4o-mini", "text-embedding-3-small"]
members = [{{ backend = "sweden" }}]

[[groups]]
name = "sales"
limits = {{ requests_per_minute = 2000 }}

[[consumers]]
name = "crm-bot"
group = "sales"
owners = ["crm-team"]
issued_keys = {{ max = 5, max_lifetime = "90d" }}

[consumers.limits]
requests_per_minute = 600
tokens_per_minute = 200000
budget = {{ usd = 50, period = "month" }}
models = {{ gpt-4o = {{ token_quota = {{ tokens = 100000, period = "day" }} }} }}

[[consumers]]
name = "reports"
owners = ["reports-team"]
models = ["gpt-4o-mini"]
issued_keys = {{ max = 1, max_lifetime = "7d" }}

[[consumers]]
name = "somebody-elses"
"""


def test_the_page_of_ones_own_in_a_browser(tmp_path):
    node = shutil.which("node", path=str(pathlib.Path(sys.executable).parent)) or shutil.which("node")
    ports = {name: free_port() for name in ("port", "admin", "portal", "backend", "issuer")}
    config = tmp_path / "spillway.toml"
    config.write_text(CONFIG.format(**ports, state=tmp_path / "state"))
    processes = [
        subprocess.Popen([SPILLWAY, "mock", "--listen", f"127.0.0.1:{ports['backend']}"]),
        subprocess.Popen([node, str(HERE / "issuer.mjs"), str(ports["issuer"])], env=dict(os.environ, ISSUER_PEOPLE=json.dumps(PEOPLE))),
    ]
    try:
        wait_for(ports["backend"])
        wait_for(ports["issuer"])
        processes.append(subprocess.Popen([SPILLWAY, "run", "-c", str(config)]))
        for name in ("port", "admin", "portal"):
            wait_for(ports[name])
        environment = dict(
            os.environ,
            ME_URL=f"http://localhost:{ports['portal']}/",
            GATEWAY_URL=f"http://127.0.0.1:{ports['port']}",
            PYTHON=sys.executable,
            NODE=node,
            SNIPPETS=str(tmp_path),
        )
        tests = subprocess.run([node, "--test", str(HERE / "me.test.mjs")], env=environment, capture_output=True, text=True, timeout=300)
        assert tests.returncode == 0, tests.stdout + tests.stderr
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()
