"""What rules, alerts and dashboards ask for: their expressions, and the names and labels in these."""

import json
import pathlib
import re

import yaml

DEPLOY = pathlib.Path(__file__).resolve().parents[1]
RULES = DEPLOY / "prometheus/spillway.rules.yml"
ALERTS = DEPLOY / "prometheus/spillway.alerts.yml"
DASHBOARDS = sorted((DEPLOY / "grafana").glob("*.json"))

NAME = re.compile(r"\b([a-z_]+:[a-z0-9_]+:[a-z0-9_]+|(?:spillway|process)_[a-z0-9_]+|up)\b(\{[^}]*\})?")
MATCHER = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")
GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left)\s*\(([^)]*)\)")
LEGEND = re.compile(r"\{\{\s*([a-z_]+)\s*\}\}")
# What Prometheus itself adds.
OF_PROMETHEUS = {"job", "instance"}


def rules(path):
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def panels(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def substituted(expression):
    """With a value for every variable of a dashboard."""
    values = {"$__rate_interval": "5m", "$__range": "6h", "$instance": ".*", "$pool": ".*"}
    for variable, value in values.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, f"an unknown variable: {expression}"
    return expression


def everything():
    """(where, expression, labels that the texts beside it show) of all that is asked."""
    for path in (RULES, ALERTS):
        for rule in rules(path):
            texts = " ".join(rule.get("annotations", {}).values())
            yield f"{path.name}: {rule.get('record') or rule['alert']}", rule["expr"], set(re.findall(r"\$labels\.([a-z_]+)", texts))
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        for panel in panels(dashboard):
            for target in panel["targets"]:
                where = f"{path.name}: {panel['title']}"
                yield where, substituted(target["expr"]), set(LEGEND.findall(target["legendFormat"]))
        for variable in dashboard["templating"]["list"]:
            asked = re.fullmatch(r"label_values\((.*), ([a-z_]+)\)", str(variable.get("definition", "")))
            if asked:
                yield f"{path.name}: ${variable['name']}", substituted(asked[1]), {asked[2]}


def without_strings(text):
    return re.sub(r'"[^"]*"', '""', text)


def selectors(expression):
    """(name, labels that it is picked by) of each metric in an expression."""
    # What is in parentheses behind `by` and `on` is no metric.
    text = GROUPING.sub("", without_strings(expression))
    return [(name, set(MATCHER.findall(matchers or ""))) for name, matchers in NAME.findall(text)]


def groupings(expression):
    text = without_strings(expression)
    return {label.strip() for labels in GROUPING.findall(text) for label in labels.split(",") if label.strip()}


def recorded():
    """name -> labels of what the recording rules make: those that the outermost `by` leaves, else those of their sources."""
    made = {}
    for rule in rules(RULES):
        left = groupings(rule["expr"])
        for name, _ in selectors(rule["expr"]):
            left |= made.get(name, set()) if not groupings(rule["expr"]) else set()
        made[rule["record"]] = (left | OF_PROMETHEUS) - {"le"}
    return made


def exposed(text):
    """name -> labels of what a gateway tells, from its HELP, TYPE and sample lines."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    helped = set(re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE))
    assert helped == set(kinds), f"without HELP or TYPE: {helped ^ set(kinds)}"
    found = {}
    for name, labels in re.findall(r"^([a-z_]+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        assert name in kinds or kinds.get(family) == "histogram", f"a sample without a TYPE: {name}"
        found.setdefault(name, set()).update(re.findall(r'([a-z_]+)="', labels))
    return found
