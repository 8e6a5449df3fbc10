"""Rules, alerts and dashboards: valid, about metrics that there are, and right about a real outage."""

import collections
import http.client
import itertools
import json
import multiprocessing
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
import yaml

import expressions
from expressions import ALERTS, DASHBOARDS, DEPLOY, OF_PROMETHEUS, RULES
from gateways import FULL, KEY, LIMITED, SHADOWED, free_port, running, until

PROMETHEUS = DEPLOY / "prometheus"
TESTS = sorted((PROMETHEUS / "tests").glob("*.test.yml"))
RUNBOOK = DEPLOY.parent / "docs/runbook.md"

# The bound on series, and how many requests try to break it. A million takes some minutes.
SERIES = 2000
REQUESTS = int(os.environ.get("MONITORING_REQUESTS", "100000"))

pytestmark = pytest.mark.skipif(not (shutil.which("promtool") and shutil.which("prometheus")), reason="needs prometheus")


def promtool(*arguments):
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def alert_names():
    return [rule["alert"] for rule in expressions.rules(ALERTS)]


# What is written down.


def test_config_and_rules_are_valid():
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", RULES, ALERTS)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_alerts_fire_when_they_must_and_only_then(path):
    promtool("test", "rules", path)


def test_every_alert_is_tried_both_ways():
    """A test is named after its alert. It expects it, and expects nothing: earlier, or of what is well."""
    fires, rests = set(), set()
    for path in TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            name = test["name"].split(" ")[0]
            for question in test["promql_expr_test"]:
                assert f'alertname="{name}"' in question["expr"]
                (fires if question["exp_samples"] else rests).add(name)
    assert fires == rests == set(alert_names())


def test_every_alert_has_what_whoever_is_woken_needs():
    text = RUNBOOK.read_text()
    anchors = {title.lower() for title in re.findall(r"^### (\S+)$", text, re.MULTILINE)}
    for rule in expressions.rules(ALERTS):
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, rule["alert"]
        assert rule["annotations"]["runbook_url"].endswith(f"/runbook.md#{rule['alert'].lower()}")
    assert anchors == {name.lower() for name in alert_names()}
    assert set(re.findall(r"\]\(#(\w+)\)", text)) <= anchors, "a link within the runbook leads nowhere"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_dashboards_hold_together(path):
    dashboard = json.loads(path.read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    taken = collections.Counter()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert at["w"] > 0 and at["h"] > 0 and at["x"] >= 0 and at["x"] + at["w"] <= 24, panel["title"]
        taken.update(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
    assert max(taken.values()) == 1, "panels overlap"
    variables = {variable["name"]: variable["type"] for variable in dashboard["templating"]["list"]}
    assert variables == {"datasource": "datasource", "instance": "query", "pool": "query"}
    builtin = {"timeseries", "stat", "table", "state-timeline"}
    for panel in expressions.panels(dashboard):
        assert panel["type"] in builtin, panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)), panel["title"]
        for holder in (panel, *panel["targets"]):
            assert holder["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
    assert len({json.loads(other.read_text())["uid"] for other in DASHBOARDS}) == len(DASHBOARDS) == 3


def test_every_expression_of_a_dashboard_can_be_read(tmp_path):
    asked = [expression for where, expression, _ in expressions.everything() if ".json" in where]
    made = [{"record": f"dashboards:expression:{number}", "expr": expression} for number, expression in enumerate(asked)]
    (tmp_path / "dashboards.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": made}]}))
    promtool("check", "rules", tmp_path / "dashboards.yml")


# What a gateway tells.


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The metrics of a gateway in which everything has happened that shows a metric for the first time."""
    with running(tmp_path_factory.mktemp("full"), FULL) as gateway:
        assert gateway.ask() == 200
        assert gateway.ask(model="unknown") == 404
        assert gateway.ask(model="nobody") == 200, "the last resort answers"
        assert {gateway.ask(key=SHADOWED) for _ in range(3)} == {200}
        assert gateway.ask(key="of nobody") == 401
        until("the quota is used up", lambda: gateway.ask(key=LIMITED) == 403)
        return gateway.metrics()


def test_every_metric_and_label_that_is_asked_for_exists(told):
    known = expressions.exposed(told) | expressions.recorded() | {"up": set()}
    for where, expression, shown in expressions.everything():
        found = expressions.selectors(expression)
        assert found, where
        for name, picked in found:
            assert name in known, f"{where}: there is no {name}"
            assert picked <= known[name] | OF_PROMETHEUS, f"{where}: {name} has no {picked - known[name]}"
        some = OF_PROMETHEUS.union(*(known[name] for name, _ in found))
        asked = shown | expressions.groupings(expression)
        assert asked <= some, f"{where}: nothing in it has {asked - some}"


# Counters of failures that nobody is told of, and why not.
UNWATCHED = {
    "spillway_ptu_refusals_total": "a full PTU says 429: that is how it is filled",
    "spillway_malformed_events_total": "of a backend; the stream goes on without the event",
    "spillway_ledger_waiting_refusals": "they wait; SpillwayLedgerRefusalsDropped tells of those that are lost",
    "spillway_stored_objects_unshared_total": "follows from Redis, see SpillwayLimitsUnshared",
}


def test_every_failure_that_is_counted_is_shown_or_told(told):
    """A counter whose name says that something was lost or went wrong is in an alert or on a dashboard."""
    asked = {name for _, expression, _ in expressions.everything() for name, _ in expressions.selectors(expression)}
    bad = re.compile(r"fail|drop|lost|damage|conflict|broken|panic|malformed|unshared|unsaved|refus|unchecked")
    counted = {name for name in expressions.exposed(told) if bad.search(name)}
    assert counted, "no metric at all"
    assert counted - asked <= set(UNWATCHED), f"in no alert and on no dashboard: {sorted(counted - asked - set(UNWATCHED))}"
    assert not asked & set(UNWATCHED)


def test_first_tier_is_called_one(told):
    assert 'spillway_tier_served_total{pool="chat",priority="1"}' in told


# What Prometheus sees of it.


class Prometheus:
    """Scrapes one gateway every half second, with alerts that wait for a second only."""

    def __init__(self, gateway):
        self.port = free_port()
        folder = gateway.folder / "prometheus"
        folder.mkdir()
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{gateway.admin}"]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        for path in (RULES, ALERTS):
            rules = yaml.safe_load(path.read_text())
            for group in rules["groups"]:
                group.pop("interval", None)
                for rule in group["rules"]:
                    if "for" in rule:
                        rule["for"] = "1s"
            (folder / path.name).write_text(yaml.safe_dump(rules))
        gateway.programs.start(
            "prometheus", "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}", port=self.port,
        )

    def api(self, path, **query):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            told = json.load(answer)
        assert told["status"] == "success", told
        return told["data"]

    def query(self, expression):
        return self.api("query", query=expression)["result"]

    def firing(self):
        alerts = self.api("alerts")["alerts"]
        return {alert["labels"]["alertname"]: alert for alert in alerts if alert["state"] == "firing"}


def test_an_outage_is_seen_and_so_is_its_end(tmp_path):
    with running(tmp_path) as gateway:
        prometheus = Prometheus(gateway)

        def is_ready():
            try:
                return prometheus.query('up{job="spillway"} == 1')
            except (urllib.error.HTTPError, ConnectionError):
                return False

        until("Prometheus scrapes the gateway", is_ready)
        assert gateway.ask() == 200
        until("all is well", lambda: prometheus.query("instance_pool:spillway_targets_usable:sum == 2") and not prometheus.firing())

        gateway.stop_backends()
        assert gateway.ask() in (502, 503, 504)

        def is_out():
            gateway.ask()
            return prometheus.firing().get("SpillwayPoolOut")

        alert = until("the outage's alert", is_out)
        assert alert["labels"]["pool"] == "chat" and alert["labels"]["severity"] == "page"
        assert alert["annotations"]["summary"] == "chat: no target can be asked"
        assert alert["annotations"]["runbook_url"].endswith("#spillwaypoolout")
        assert "SpillwayDown" not in prometheus.firing()

        gateway.start_backends()
        until("callers are served again", lambda: gateway.ask() == 200)

        def is_over():
            gateway.ask()
            return "SpillwayPoolOut" not in prometheus.firing()

        until("the alert's end", is_over)

        # All rules could be evaluated, and all that dashboards ask could be answered.
        rules = [rule for group in prometheus.api("rules")["groups"] for rule in group["rules"]]
        assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
        for where, expression, _ in expressions.everything():
            if ".json" in where:
                prometheus.query(expression)

        # The gateway itself goes.
        gateway.programs.stop(gateway.process)
        until("the gateway's own alert", lambda: "SpillwayDown" in prometheus.firing())


# How much it tells.


def hammer(port, count, seed):
    """Requests over kept connections, each with a model, a key and a path that nobody has seen before."""
    seen = collections.Counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for number in range(count):
        strange = f"{seed}-{number}"
        key = KEY if number % 3 else f"key-{strange}"
        path = f"/v1/{strange}" if number % 5 == 0 else "/v1/chat/completions"
        body = f'{{"model":"model-{strange}","messages":[{{"role":"user","content":"hi"}}]}}'
        connection.request("POST", path, body, {"api-key": key, "x-request-id": strange, "content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        seen[answer.status] += 1
    return seen


def series(gateway):
    return sum(1 for line in gateway.metrics().splitlines() if line and not line.startswith("#"))


def hammer_from(gateway, processes, count, seed):
    parts = [(gateway.port, count // processes, f"{seed}-{number}") for number in range(processes)]
    with multiprocessing.Pool(processes) as pool:
        return sum(pool.starmap(hammer, parts), collections.Counter())


def test_callers_can_not_make_series(tmp_path):
    with running(tmp_path) as gateway:
        assert gateway.ask() == 200
        # Once each of what can be met.
        hammer_from(gateway, 1, 30, "first")
        before = series(gateway)
        began = time.monotonic()
        seen = hammer_from(gateway, 4, REQUESTS, "then")
        print(f"{sum(seen.values())} requests in {time.monotonic() - began:.0f} s, {dict(seen)}, {before} series")
        assert set(seen) == {401, 404} and sum(seen.values()) >= REQUESTS - 4
        assert series(gateway) == before < SERIES
