"""The config that main.bicep makes, with and without provisioned throughput: the gateway accepts it."""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
AZURE = ROOT / "deploy/azure"
SPILLWAY = os.environ.get("SPILLWAY", str(ROOT / "target/debug/spillway"))


def substituted(ptu, model):
    """As `reduce(values, template, ...)` does there; the values are examples."""
    bicep = (AZURE / "main.bicep").read_text()
    examples = {"URL": "https://contoso.openai.azure.com", "LOCATION": "swedencentral", "MODEL": model, "PTU": f"{model}-ptu", "PAYG": f"{model}-payg",
                "CLIENT_ID": "00000000-1111-2222-3333-444444444444", "TENANT": "00000000-1111-2222-3333-555555555555", "AUDIENCE": "api://spillway"}
    member = re.search(r"var ptuMember = '(.*)\\n'", bicep)[1] + "\n"
    text = (AZURE / "spillway.toml").read_text()
    assert member in text
    text = text if ptu else text.replace(member, "")
    for name in re.findall(r"\['@(\w+)@'", bicep):
        if name in ("CONFIG", "ADMIN_TOKEN", "PACKAGE_URL", "PACKAGE_SHA256"):
            continue
        text = text.replace(f"@{name}@", examples[name.removeprefix("FIRST_").removeprefix("SECOND_")])
    # Comments name the form.
    assert "@" not in re.sub(r"#.*", "", text)
    return text


@pytest.mark.parametrize("ptu", [True, False], ids=["with a PTU", "without"])
@pytest.mark.parametrize("model", ["gpt-4o", "a-model-of-tomorrow"])
def test_the_config_is_accepted(tmp_path, ptu, model):
    (tmp_path / "spillway.toml").write_text(substituted(ptu, model))
    (tmp_path / "admin-token").write_text("a-token-of-at-least-thirty-two-characters")
    done = subprocess.run([SPILLWAY, "check", "-c", str(tmp_path / "spillway.toml")], env=os.environ | {"CREDENTIALS_DIRECTORY": str(tmp_path)},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
