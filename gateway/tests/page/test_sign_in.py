"""Persons sign in on the status page of a real gateway, in a real browser: `sign-in.test.mjs`."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import test_page
from ports import free_port, wait_for

HERE = pathlib.Path(__file__).parent
PEOPLE = {
    "ada": {"sub": "ada", "name": "Ada Lovelace", "roles": ["Gateway.Operator"]},
    "olga": {"sub": "olga", "name": "Olga Ladyzhenskaya", "roles": ["Gateway.Operator"], "auth_age": 3600},
    "vera": {"sub": "vera", "name": "Vera Rubin", "roles": ["Gateway.Viewer"]},
    "mia": {"sub": "mia", "name": "Mia Hamm", "groups": ["5c1e3a52-3f0e-4f6c-9f0b-2f7f0f0f7a10"]},
    "nobody": {"sub": "nobody", "name": "Nemo", "roles": ["Other.Role"], "groups": ["one"]},
}

SIGN_IN = """
[server.sign_in]
issuer = "http://127.0.0.1:{issuer}"
client_id = "gateway"
url = "http://localhost:{admin}"

[server.sign_in.roles]
operator = ["Gateway.Operator"]
viewer = ["Gateway.Viewer"]
member = ["5c1e3a52-3f0e-4f6c-9f0b-2f7f0f0f7a10"]
"""


def test_signing_in_with_a_browser(tmp_path):
    node = shutil.which("node", path=str(pathlib.Path(sys.executable).parent)) or shutil.which("node")
    issuer = free_port()
    process = subprocess.Popen([node, str(HERE / "issuer.mjs"), str(issuer)], env=dict(os.environ, ISSUER_PEOPLE=json.dumps(PEOPLE)))
    scene = None
    try:
        wait_for(issuer)
        scene = test_page.Scene(tmp_path, "a-token-for-programs", lambda ports: SIGN_IN.format(issuer=issuer, admin=ports["admin"]))
        # Two sites, as in life: `localhost` is another one than the issuer's address.
        environment = dict(os.environ, STATUS_URL=f"http://localhost:{scene.ports['admin']}/", ISSUER_URL=f"http://127.0.0.1:{issuer}")
        tests = subprocess.run([node, "--test", str(HERE / "sign-in.test.mjs")], env=environment, capture_output=True, text=True, timeout=300)
        assert tests.returncode == 0, tests.stdout + tests.stderr
    finally:
        if scene:
            scene.close()
        process.terminate()
        process.wait()
