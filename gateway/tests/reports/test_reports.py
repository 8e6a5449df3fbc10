"""What the gateway writes for other programs, read by other programs: Parquet by pyarrow and DuckDB, FOCUS by its validator."""

import csv
import datetime
import http.server
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import urllib.request

import duckdb
import pyarrow.parquet
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "gateway/tests/clients"))
from ports import free_port, wait_for  # noqa: E402

SPILLWAY = os.environ.get("SPILLWAY", str(ROOT / "target/debug/spillway"))
SITE = pathlib.Path(pyarrow.__file__).parents[1]

# What the dataset supports; the specification then asks for more columns.
CRITERIA = [
    "ACCOUNT_NAMING_SUPPORTED",
    "BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED",
    "MULTIPLE_PRICING_CATEGORIES_SUPPORTED",
    "RESOURCE_TYPE_ASSIGNMENT_SUPPORTED",
    "SUB_ACCOUNT_SUPPORTED",
    "TAGGING_SUPPORTED",
    "USAGE_MEASUREMENT_SUPPORTED",
]
# Two rules of which one holds: InvoiceId is null without an invoice, and not null with one. The validator counts the other one.
ALTERNATIVES = {"InvoiceId-C-005-C"}

CONFIG = """
[server]
listen = ["127.0.0.1:{port}"]
admin = "127.0.0.1:{admin}"
state_dir = "{state}"

[log]
access = "off"

[ledger]
durability = "strict"
tags = ["x-team", "x-cost-centre"]

[ledger.ship]
to = "{place}"
every = "1s"

[[backends]]
name = "ptu"
kind = "openai"
url = "http://127.0.0.1:{backend}"
prices = {{ m = {{ usd_per_hour = 6.0 }} }}

[[backends]]
name = "payg"
kind = "openai"
url = "http://127.0.0.1:{backend}"
deployments = {{ other = "other-deployment" }}

[backends.prices.other-deployment]
input = 2.5
cached_input = 1.25
output = 10.0
flex = {{ input = 1.25, cached_input = 0.625, output = 5.0 }}

[[pools]]
name = "one"
models = ["m"]
members = [{{ backend = "ptu" }}]

[[pools]]
name = "two"
models = ["other", "unpriced"]
members = [{{ backend = "payg" }}]

[[consumers]]
name = "crm"
keys = [{{ sha256 = "{crm}" }}]

[[consumers]]
name = "=shop"
keys = [{{ sha256 = "{shop}" }}]
"""


class Backend(http.server.BaseHTTPRequestHandler):
    """Answers chats; the usage differs from request to request."""

    protocol_version = "HTTP/1.1"
    count = 0

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        Backend.count += 1
        usage = {
            "prompt_tokens": 100 + Backend.count,
            "completion_tokens": 10 + Backend.count % 7,
            "total_tokens": 110 + Backend.count + Backend.count % 7,
            "prompt_tokens_details": {"cached_tokens": Backend.count % 50},
        }
        choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
        answer = {"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage}
        if "service_tier" in asked:
            answer["service_tier"] = asked["service_tier"]
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def chat(port, key, model, **more):
    headers = {"content-type": "application/json", "api-key": key} | more.pop("headers", {})
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]} | more
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """Two nodes with traffic of every kind; their config files, and the place that they ship to."""
    import hashlib

    base = tmp_path_factory.mktemp("reports")
    place = base / "place"
    place.mkdir()
    backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    processes, files = [], []
    digest = lambda text: hashlib.sha256(text.encode()).hexdigest()  # noqa: E731
    try:
        for name in ["a", "b"]:
            port = free_port()
            text = CONFIG.format(
                port=port, admin=free_port(), state=base / name, place=place, backend=backend.server_port, crm=digest("crm"), shop=digest("shop")
            )
            file = base / f"{name}.toml"
            file.write_text(text)
            processes.append(subprocess.Popen([SPILLWAY, "run", "-c", file]))
            wait_for(port)
            files.append(file)
            for number in range(30):
                team = ['red', 'blue, "and" green', "=1+1"][number % 3]
                chat(port, ["crm", "shop"][number % 2], ["m", "other", "unpriced"][number % 3], headers={"x-team": team})
            chat(port, "crm", "other", service_tier="flex", headers={"x-team": "red", "x-cost-centre": "4711"})
            chat(port, "crm", "other", service_tier="priority")
        for process in processes:
            process.terminate()
            process.wait(timeout=30)
        yield files, place
    finally:
        for process in processes:
            process.kill()
        backend.shutdown()


def usage(*arguments):
    done = subprocess.run([SPILLWAY, "usage", *map(str, arguments)], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def validated(path):
    """The rules that a dataset breaks."""
    command = [
        pathlib.Path(sys.executable).parent / "focus-validator",
        *("--data-file", path, "--validate-version", "1.2", "--focus-dataset", "CostAndUsage"),
        *("--applicability-criteria", ",".join(CRITERIA), "--show-violations", "--block-download"),
    ]
    # It looks for its rules below the current folder, and writes a log there.
    log = SITE / "focus_validator_detailed.log"
    done = subprocess.run(command, capture_output=True, cwd=SITE, text=True, timeout=300)
    log.unlink(missing_ok=True)
    assert done.returncode == 0, done.stderr[-3000:]
    total = re.search(r"Total: (\d+) \| Pass: (\d+) \| Fail: (\d+)", done.stdout)
    assert total and int(total[2]) > 150, done.stdout[-3000:]
    broken = set(re.findall(r"❌ ([\w-]+): FAIL", done.stdout))
    assert len(broken) == int(total[3]), done.stdout[-3000:]
    return broken


def test_attempts_in_parquet_are_those_in_json_lines(nodes, tmp_path):
    (file, _), _ = nodes
    path = tmp_path / "attempts.parquet"
    path.write_bytes(usage("export", "-c", file, "--format", "parquet"))
    expected = [json.loads(line) for line in usage("export", "-c", file, "--format", "jsonl").splitlines()]
    table = pyarrow.parquet.read_table(path)
    rows = table.to_pylist()
    assert len(rows) == len(expected) == 32
    for row, other in zip(rows, expected):
        row["time"] = row["time"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
        row["tags"] = row["tags"] and json.loads(row["tags"])
        assert row == other
    assert str(table.schema.field("time").type) == "timestamp[ms, tz=UTC]"
    tokens = duckdb.sql(f"SELECT sum(input_tokens), count(*) FILTER (tags IS NULL) FROM read_parquet('{path}')").fetchone()
    assert tokens == (sum(row["input_tokens"] for row in expected), 1)


def test_an_empty_export_is_a_valid_file(nodes, tmp_path):
    (file, _), _ = nodes
    path = tmp_path / "none.parquet"
    path.write_bytes(usage("export", "-c", file, "--format", "parquet", "--since", "2020-01-01", "--until", "2020-01-02"))
    assert pyarrow.parquet.read_table(path).num_rows == 0


@pytest.mark.parametrize("source", ["node", "all"])
def test_a_focus_dataset_is_valid_as_csv_and_as_parquet(nodes, tmp_path, source):
    files, place = nodes
    arguments = ["-c", files[0], *(["--all-nodes", "--from", place] if source == "all" else [])]
    text = tmp_path / "focus.csv"
    text.write_bytes(usage(*arguments, "--format", "focus", "--billing-account", "contoso"))
    assert validated(text) <= ALTERNATIVES
    binary = tmp_path / "focus.parquet"
    binary.write_bytes(usage(*arguments, "--format", "focus-parquet", "--billing-account", "contoso"))
    assert validated(binary) <= ALTERNATIVES
    rows = list(csv.DictReader(io.StringIO(text.read_text())))
    table = pyarrow.parquet.read_table(binary).to_pylist()
    assert len(rows) == len(table) and list(rows[0]) == list(table[0])
    for row, other in zip(rows, table):
        for name, value in other.items():
            cell = row[name]
            if isinstance(value, datetime.datetime):
                assert value.strftime("%Y-%m-%dT%H:%M:%SZ") == cell
            elif isinstance(value, float):
                assert abs(value - float(cell)) < 1e-11, name
            elif isinstance(value, str):
                assert cell in (value, "'" + value), name
            else:
                assert ("" if value is None else str(value)) == cell, name


def test_a_focus_dataset_has_the_sums_of_the_report(nodes):
    files, place = nodes
    everything = ["--all-nodes", "--from", place]
    dataset = list(csv.DictReader(io.StringIO(usage("-c", files[0], *everything, "--format", "focus").decode())))
    report = json.loads(usage("-c", files[0], *everything, "--json", "--by", "consumer,service_tier"))
    assert len(report["nodes"]) == 2 and not report["set_aside"] and not report["conflicts"]
    total = lambda name, rows: sum(float(row[name]) for row in rows)  # noqa: E731
    assert total("x_Requests", dataset) == sum(row["requests"] for row in report["rows"]) == 64
    assert total("ConsumedQuantity", dataset) == sum(row["input_tokens"] + row["output_tokens"] for row in report["rows"])
    assert abs(total("BilledCost", dataset) - sum(row["cost_usd"] or 0 for row in report["rows"])) < 1e-9
    # The hours of the provisioned deployment are paid once, though two nodes have used it.
    hours = total("x_ProvisionedCost", dataset) / 6.0
    assert abs(hours - round(hours)) < 1e-6 and 1 <= round(hours) <= 2
    assert {row["x_ServiceTier"] for row in dataset} == {"", "flex", "priority"}
    tags = [json.loads(row["Tags"]) for row in dataset if row["Tags"]]
    assert {"x-team": "red", "x-cost-centre": "4711"} in tags and {"x-team": 'blue, "and" green'} in tags
    assert {row["SubAccountId"] for row in dataset} == {"crm", "'=shop"}
    assert sum(int(row["x_UnpricedAttempts"]) for row in dataset) == 20


def test_the_validator_finds_what_is_wrong(nodes, tmp_path):
    files, _ = nodes
    rows = list(csv.DictReader(io.StringIO(usage("-c", files[0], "--format", "focus").decode())))
    for name, value, rule in [("ChargeCategory", "Use", "ChargeCategory"), ("BilledCost", "", "BilledCost"), ("BillingCurrency", "dollars", "BillingCurrency")]:
        path = tmp_path / f"{name}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows([row | {name: value} for row in rows])
        assert any(broken.startswith(rule) for broken in validated(path)), name


def test_sums_that_were_shipped_are_read_with_nothing_but_gzip_and_json(nodes):
    """docs/reports.md says what is in a file."""
    import gzip

    _, place = nodes
    requests = 0
    for path in place.glob("*/*/*.jsonl.gz"):
        head, *rows = [json.loads(line) for line in gzip.open(path, "rt")]
        assert (head["format"], head["rows"]) == (1, len(rows)) and head["hour"] in path.name and head["node"] == path.parts[-3]
        requests += sum(dict(zip(head["columns"], row))["requests"] for row in rows)
    assert requests == 64
