"""The chart, by Helm itself and by the schemas of every Kubernetes that it claims; its config by the gateway.

HELM names Helm's program; `make chart` installs one.
"""

import copy
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tomllib
import urllib.error
import urllib.request

import kubernetes_validate.utils
import pytest
import yaml
from gateways import free_port, listens, until

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/spillway"
HELM = os.environ.get("HELM", "helm")
DOCS = (ROOT / "docs/containers.md").read_text()
SPILLWAY = os.environ.get("SPILLWAY", str(ROOT / "target/debug/spillway"))
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
OLDEST = re.search(r">=(1\.\d+)", (CHART / "Chart.yaml").read_text())[1]
KUBERNETES = [version for version in sorted({kubernetes_validate.utils.major_minor(version) for version in kubernetes_validate.utils.all_versions()},
                                            key=lambda version: int(version.split(".")[1])) if int(version.split(".")[1]) >= int(OLDEST.split(".")[1])]
IDENTITY = {"azure": {"workloadIdentity": {"enabled": True, "clientId": "00000000-1111-2222-3333-444444444444", "tenantId": "00000000-1111-2222-3333-555555555555"}}}
PORTAL = """
  [server.sign_in]
  issuer = "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0"
  client_id = "66666666-7777-8888-9999-000000000000"
  client_secret = { credential = "sign-in-secret" }
  url = "https://gateway-admin.example.com"
  everyone = "member"

  [server.portal]
  listen = "0.0.0.0:8444"
  url = "https://ai.example.com"
  gateway_url = "https://gateway.example.com"
""".replace("\n  ", "\n")
# Each a way to install it; together they reach every line of every template.
RELEASES = {
    "default": {},
    "everything": IDENTITY | {
        "image": {"repository": "registry.example/spillway", "digest": f"sha256:{'a' * 64}", "pullSecrets": [{"name": "registry"}]},
        "restartOnConfigChange": True,
        "tls": {"secretName": "certificate"},
        "env": [{"name": "AOAI_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "aoai"}}}],
        "envFrom": [{"secretRef": {"name": "more-keys"}}],
        "service": {"type": "LoadBalancer", "port": 443, "annotations": {"service.beta.kubernetes.io/azure-load-balancer-internal": "true"},
                    "loadBalancerClass": "example.com/internal", "loadBalancerSourceRanges": ["10.0.0.0/8"]},
        "persistence": {"storageClass": "managed-csi-premium", "accessMode": "ReadWriteOncePod", "whenScaled": "Delete"},
        "serviceAccount": {"name": "gateways", "annotations": {"example.com/team": "platform"}},
        "rehearse": {"args": ["--json"]},
        "autoscaling": {"enabled": True},
        "config": VALUES["config"] + PORTAL,
        "portal": {"enabled": True, "type": "LoadBalancer", "annotations": {"service.beta.kubernetes.io/azure-load-balancer-internal": "true"},
                   "loadBalancerClass": "example.com/internal", "loadBalancerSourceRanges": ["10.0.0.0/8"]},
        "networkPolicy": {"enabled": True, "from": [{"namespaceSelector": {}}], "adminFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
                          "portalFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
                          "egress": [{"ports": [{"port": 443}]}, {"ports": [{"port": 53, "protocol": "UDP"}]}]},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "podAnnotations": {"example.com/a": "b"}, "podLabels": {"example.com/c": "d"}, "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "gateways", "operator": "Exists"}], "priorityClassName": "important",
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]}]}}},
        "extraVolumes": [{"name": "prices", "configMap": {"name": "prices"}}],
        "extraVolumeMounts": [{"name": "prices", "mountPath": "/etc/prices", "readOnly": True}],
    },
    "without state": {"persistence": {"enabled": False}, "autoscaling": {"enabled": True}, "fullnameOverride": "gateways"},
    "little": {
        "existingConfigMap": "mine", "credentials": {"secretName": ""}, "serviceAccount": {"create": False}, "podDisruptionBudget": {"enabled": False},
        "topologySpread": {"enabled": False}, "networkPolicy": {"enabled": True}, "rehearse": {"enabled": True}, "nameOverride": "ai", "replicas": 1,
    },
    "no rehearsal": {"rehearse": {"enabled": False}, "service": {"type": "NodePort"}},
    "with a portal": {"config": VALUES["config"] + PORTAL, "portal": {"enabled": True}, "networkPolicy": {"enabled": True}},
}

pytestmark = pytest.mark.skipif(shutil.which(HELM) is None, reason="needs helm")


def helm(*argv, values=None, release="test"):
    arguments = ["--values", "/dev/stdin"] if values is not None else []
    return subprocess.run([HELM, argv[0], *([release] if argv[0] == "template" else []), str(CHART), *argv[1:], *arguments],
                          input=json.dumps(values or {}), text=True, capture_output=True)


@functools.cache
def rendered(values, release="test"):
    done = helm("template", "--namespace", "ai", values=json.loads(values), release=release)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def objects(name_or_values, release="test"):
    values = RELEASES[name_or_values] if isinstance(name_or_values, str) else name_or_values
    return copy.deepcopy(rendered(json.dumps(values), release))


def one(found, kind, name=""):
    [only] = [each for each in found if each["kind"] == kind and name in each["metadata"]["name"]]
    return only


def workload(found):
    [only] = [each for each in found if each["kind"] in ("StatefulSet", "Deployment")]
    return only


def pods(found):
    """kind and name -> what a pod of it is"""
    for each in found:
        if each["kind"] == "Pod":
            yield each["kind"], each
        elif "template" in each.get("spec", {}):
            yield each["kind"], each["spec"]["template"]


def matches(selector, labels):
    return selector.items() <= labels.items()


everywhere = pytest.mark.parametrize("name", RELEASES)


@everywhere
def test_helm_finds_no_fault(name):
    done = helm("lint", "--strict", values=RELEASES[name])
    assert done.returncode == 0, done.stdout + done.stderr


@everywhere
def test_every_kubernetes_knows_every_field(name):
    for version in KUBERNETES:
        for found in objects(name):
            # Of the Prometheus operator, not of Kubernetes.
            if found["kind"] != "ServiceMonitor":
                kubernetes_validate.validate(found, version, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_found():
    broken = workload(objects("default"))
    broken["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(broken, KUBERNETES[-1], strict=True)


@everywhere
def test_names_are_short_enough_and_each_is_given_once(name):
    found = objects(name, release="a-release-with-a-name-that-is-as-long-as-helm-allows1"[:53])
    names = [(each["kind"], each["metadata"]["name"]) for each in found]
    assert len(names) == len(set(names))
    # A StatefulSet's pods get -NUMBER and a hash of ten digits in a label.
    assert all(len(each) <= 52 for _, each in names)


@pytest.mark.parametrize("values, named", [
    ({"replica": 3}, "replica"),
    ({"persistence": {"enabled": "yes"}}, "enabled"),
    ({"persistence": {"accessMode": "ReadWriteMany"}}, "accessMode"),
    ({"ports": {"http": 70000}}, "http"),
    ({"image": {"repository": "spillway@sha256:0"}}, "repository"),
    ({"resources": {"limits": {"memory": "1 GB"}}}, "memory"),
    ({"podDisruptionBudget": {"maxUnavailable": "100%"}}, "maxUnavailable"),
    ({"azure": {"workloadIdentity": {"enabled": True}}}, "clientId"),
    ({"service": {"type": "Ingress"}}, "type"),
    ({"config": ""}, "config"),
    ({"config": '[server]\nlisten = ["0.0.0.0:8080"]'}, "server.admin must be on port 9090"),
    ({"config": '[server]\nlisten = ["0.0.0.0:8080"]\nadmin = "127.0.0.1:9090"'}, "server.admin is on loopback"),
    ({"ports": {"http": 8443}}, "server.listen must have port 8443"),
    ({"portal": {"enabled": True}}, "server.portal.listen must be on port 8444"),
    ({"portal": {"enabled": True}, "config": VALUES["config"] + PORTAL.replace("0.0.0.0:8444", "127.0.0.1:8444")}, "server.portal.listen is on loopback"),
    ({"portal": {"affinitySeconds": 100000}}, "affinitySeconds"),
    ({"env": [{"value": "x"}]}, "name"),
])
def test_a_value_that_makes_no_sense_is_refused_by_name(values, named):
    done = helm("template", values=values)
    assert done.returncode != 0
    assert named in done.stderr


def keys(tree, path=()):
    for key, value in tree.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from keys(value, (*path, key))


def described(schema, path=()):
    for key, value in schema.get("properties", {}).items():
        yield (*path, key)
        if "$ref" not in value:
            yield from described(value, (*path, key))


def test_schema_and_defaults_have_the_same_keys():
    """A resource list's and a free table's own keys are the user's."""
    schema = set(described(SCHEMA)) - {("global",)}
    assert schema == {key for key in keys(VALUES) if key in schema or key[:-1] in schema - {("rehearse", "resources"), ("resources",)} or len(key) == 1}


def test_every_value_is_used_by_a_template():
    text = "".join(path.read_text() for path in (CHART / "templates").rglob("*.*"))
    unused = [".".join(path) for path in described(SCHEMA) if path != ("global",) and not re.search(rf"\.{path[-1]}\b", text)]
    assert unused == []


@everywhere
def test_every_pod_runs_without_privileges(name):
    for _, pod in pods(objects(name)):
        outer = pod["spec"]["securityContext"]
        assert (outer["runAsNonRoot"], outer["runAsUser"], outer["seccompProfile"]) == (True, 65532, {"type": "RuntimeDefault"})
        assert pod["spec"]["automountServiceAccountToken"] is False
        for container in pod["spec"]["containers"]:
            inner = container["securityContext"]
            assert (inner["allowPrivilegeEscalation"], inner["readOnlyRootFilesystem"]) == (False, True)
            assert inner["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


@everywhere
def test_every_mount_has_its_volume(name):
    for kind, pod in pods(objects(name)):
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]} | ({"state"} if kind == "StatefulSet" else set())
        mounts = [mount for container in pod["spec"]["containers"] for mount in container["volumeMounts"]]
        assert {mount["name"] for mount in mounts} == volumes
        assert len({mount["mountPath"] for mount in mounts}) == len(mounts)


@everywhere
def test_selectors_find_the_gateways_and_nothing_else(name):
    found = objects(name)
    selectors = [each["spec"]["selector"] for each in found if each["kind"] == "Service"]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in found if each["kind"] in ("StatefulSet", "Deployment", "PodDisruptionBudget")]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in found if each["kind"] == "NetworkPolicy"]
    selectors += [spread["labelSelector"]["matchLabels"] for spread in workload(found)["spec"]["template"]["spec"].get("topologySpreadConstraints", [])]
    assert len(selectors) >= 3
    for kind, pod in pods(found):
        for selector in selectors:
            assert matches(selector, pod["metadata"]["labels"]) == (kind in ("StatefulSet", "Deployment")), (kind, selector)


def test_the_portal_has_a_service_of_its_own_that_keeps_people_at_one_pod():
    for name in ("everything", "with a portal"):
        found = objects(name)
        service = one(found, "Service", "-portal")["spec"]
        [port] = service["ports"]
        container = workload(found)["spec"]["template"]["spec"]["containers"][0]
        assert {each["name"]: each["containerPort"] for each in container["ports"]}[port["targetPort"]] == 8444
        # A session is in one pod's memory, for eight hours by default.
        assert (service["sessionAffinity"], service["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]) == ("ClientIP", 8 * 3600)
        assert service.get("externalTrafficPolicy") == ("Local" if service["type"] == "LoadBalancer" else None)
        rules = [rule for rule in one(found, "NetworkPolicy")["spec"]["ingress"] if rule["ports"] == [{"port": "portal"}]]
        assert [rule.get("from") for rule in rules] == [RELEASES[name]["networkPolicy"].get("portalFrom")]
        # Neither the gateway's service nor the one of operators leads to it.
        others = [each["spec"]["ports"] for each in found if each["kind"] == "Service" and not each["metadata"]["name"].endswith("-portal")]
        assert [[port["targetPort"] for port in ports] for ports in others] == [["http"], ["admin"]]


def test_without_a_portal_nothing_of_it_is_there():
    for name in ("default", "little"):
        assert "portal" not in json.dumps([each for each in objects(name) if each["kind"] not in ("ConfigMap",)])


def test_prometheus_finds_the_admin_service_alone_and_has_its_token():
    found = objects("everything")
    monitor = one(found, "ServiceMonitor")["spec"]
    chosen = [each["metadata"]["name"] for each in found if each["kind"] == "Service" and matches(monitor["selector"]["matchLabels"], each["metadata"]["labels"])]
    assert chosen == ["test-spillway-admin"]
    [endpoint] = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in one(found, "Service", "-admin")["spec"]["ports"]}
    assert endpoint["authorization"]["credentials"] == {"name": "spillway-credentials", "key": "admin-token"}


def test_what_scales_is_what_is_there():
    for name in ("everything", "without state"):
        found = objects(name)
        target = one(found, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) == (workload(found)["kind"], workload(found)["metadata"]["name"])
        assert "replicas" not in workload(found)["spec"]


def test_state_outlives_a_pod_only_where_it_was_asked_for():
    with_state, without = workload(objects("default")), workload(objects("without state"))
    [claim] = with_state["spec"]["volumeClaimTemplates"]
    assert (with_state["kind"], claim["metadata"]["name"], claim["spec"]["accessModes"]) == ("StatefulSet", "state", ["ReadWriteOnce"])
    assert with_state["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert without["kind"] == "Deployment"
    assert "emptyDir" in next(volume for volume in without["spec"]["template"]["spec"]["volumes"] if volume["name"] == "state")


def test_azure_finds_its_labels():
    found = objects("everything")
    account = one(found, "ServiceAccount")["metadata"]
    assert account["annotations"]["azure.workload.identity/client-id"] == IDENTITY["azure"]["workloadIdentity"]["clientId"]
    assert account["annotations"]["azure.workload.identity/tenant-id"] == IDENTITY["azure"]["workloadIdentity"]["tenantId"]
    users = [pod for kind, pod in pods(found) if kind != "Job"]
    assert len(users) == 2
    for pod in users:
        assert pod["spec"]["serviceAccountName"] == account["name"]
        assert pod["metadata"]["labels"]["azure.workload.identity/use"] == "true"


def test_a_changed_config_replaces_no_pod_unless_asked():
    for restart in (False, True):
        before, after = (workload(objects({"config": VALUES["config"] + more, "restartOnConfigChange": restart})) for more in ("", "# more\n"))
        assert (before != after) == restart
    checksum = workload(objects("everything"))["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
    assert checksum == hashlib.sha256(RELEASES["everything"]["config"].encode()).hexdigest()


def test_the_rehearsal_comes_first_with_the_new_config_and_no_secret():
    found = objects("default")
    job, config = one(found, "Job"), one(found, "ConfigMap", "rehearse")
    assert config["data"] == one([each for each in found if each is not config], "ConfigMap")["data"]
    hooks = [each["metadata"]["annotations"] for each in (config, job)]
    assert [hook["helm.sh/hook"] for hook in hooks] == ["pre-install,pre-upgrade"] * 2
    assert int(hooks[0]["helm.sh/hook-weight"]) < int(hooks[1].get("helm.sh/hook-weight", 0))
    pod = job["spec"]["template"]["spec"]
    assert [volume.get("configMap", {}).get("name") for volume in pod["volumes"]] == [config["metadata"]["name"], None]
    assert "serviceAccountName" not in pod and "env" not in pod["containers"][0]
    assert (job["spec"]["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    assert pod["containers"][0]["args"] == ["rehearse", "-c", "/etc/spillway/spillway.toml"]
    assert one(objects("everything"), "Job")["spec"]["template"]["spec"]["containers"][0]["args"][-1] == "--json"


def test_a_config_map_of_the_users_is_used_everywhere():
    found = objects("little")
    assert [each for each in found if each["kind"] == "ConfigMap"] == []
    named = [volume["configMap"]["name"] for _, pod in pods(found) for volume in pod["spec"]["volumes"] if volume["name"] == "config"]
    assert named == ["mine"] * 3
    assert [each for each in objects("no rehearsal") if each["kind"] == "Job"] == []


# What the chart says about the gateway, asked of the gateway.


@pytest.fixture
def installed(tmp_path):
    """The config as it is mounted, on ports that are free here, and the environment of a pod."""
    found = objects("default")
    ports = {port["name"]: port["containerPort"] for port in workload(found)["spec"]["template"]["spec"]["containers"][0]["ports"]}
    mine = {name: free_port() for name in ports}
    text = one(found, "ConfigMap", "test-spillway-rehearse")["data"]["spillway.toml"]
    for name, port in ports.items():
        assert f'"0.0.0.0:{port}"' in text
        text = text.replace(f'"0.0.0.0:{port}"', f'"127.0.0.1:{mine[name]}"')
    text = text.replace("/var/lib/spillway", str(tmp_path / "state"))
    (tmp_path / "spillway.toml").write_text(text)
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/admin-token").write_text("a-token-of-at-least-thirty-two-characters")
    (tmp_path / "state").mkdir()
    environment = {entry["name"]: entry.get("value") for entry in workload(found)["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert environment == {"CREDENTIALS_DIRECTORY": "/run/spillway/credentials"}
    return tmp_path / "spillway.toml", mine, os.environ | {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}


def test_the_example_of_the_docs_installs_and_its_config_is_accepted(installed, tmp_path):
    [example] = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    values = yaml.safe_load(example)
    assert helm("lint", "--strict", values=values).returncode == 0
    found = objects(values)
    for each in found:
        kubernetes_validate.validate(each, KUBERNETES[0], strict=True)
    config = tmp_path / "example.toml"
    config.write_text(one(found, "ConfigMap", "rehearse")["data"]["spillway.toml"].replace("/var/lib/spillway", str(tmp_path / "state")))
    # What Azure's webhook sets in a pod with these labels.
    webhook = {"AZURE_CLIENT_ID": values["azure"]["workloadIdentity"]["clientId"], "AZURE_TENANT_ID": "00000000-1111-2222-3333-555555555555",
               "AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "token"), "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/"}
    (tmp_path / "token").write_text("token")
    done = subprocess.run([SPILLWAY, "check", "-c", str(config)], env=installed[2] | webhook, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_default_config_passes_its_rehearsal(installed, tmp_path):
    """Without the pod's secrets: the job has none. Otherwise nothing could be installed as it is."""
    if "rehearse" not in subprocess.run([SPILLWAY, "--help"], capture_output=True, text=True).stdout:
        pytest.skip("this gateway can't rehearse")
    command, *arguments = one(objects("default"), "Job")["spec"]["template"]["spec"]["containers"][0]["args"]
    arguments = [argument.replace("/etc/spillway/spillway.toml", str(installed[0])) for argument in arguments]
    environment = {name: value for name, value in os.environ.items() if name != "CREDENTIALS_DIRECTORY"}
    done = subprocess.run([SPILLWAY, command, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_config_with_a_portal_is_accepted(installed, tmp_path):
    config = tmp_path / "portal.toml"
    text = one(objects("with a portal"), "ConfigMap", "rehearse")["data"]["spillway.toml"]
    config.write_text(text.replace("/var/lib/spillway", str(tmp_path / "state")))
    (tmp_path / "credentials/sign-in-secret").write_text("secret")
    done = subprocess.run([SPILLWAY, "check", "-c", str(config)], env=installed[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_docs_name_the_versions_that_are_checked():
    assert f"Kubernetes {KUBERNETES[0]} to {KUBERNETES[-1]}," in DOCS


def status(url):
    try:
        return urllib.request.urlopen(url, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_default_config_is_accepted(installed):
    config, _, environment = installed
    done = subprocess.run([SPILLWAY, "check", "-c", str(config)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_probes_ask_what_the_gateway_answers_without_a_token(installed):
    config, ports, environment = installed
    container = workload(objects("default"))["spec"]["template"]["spec"]["containers"][0]
    gateway = subprocess.Popen([SPILLWAY, "run", "-c", str(config)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until("the admin listener", lambda: gateway.poll() is not None or listens(ports["admin"]))
        assert gateway.poll() is None, "it ended at once"
        address = f"http://127.0.0.1:{ports['admin']}"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["port"] == "admin"
            assert until(probe, lambda: status(address + asked["path"]) == 200)
        assert status(f"{address}/metrics") == 401
        gateway.send_signal(signal.SIGTERM)
        # While the load balancers notice, requests are still answered.
        until("not ready", lambda: status(address + container["readinessProbe"]["httpGet"]["path"]) == 503)
        assert status(address + container["livenessProbe"]["httpGet"]["path"]) == 200
    finally:
        gateway.kill()
        gateway.wait()


def seconds(duration):
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h)", duration))


def test_a_pod_has_longer_to_stop_than_the_gateway_takes():
    server = tomllib.loads(VALUES["config"])["server"]
    assert VALUES["terminationGracePeriodSeconds"] > seconds(server["lb_delay"]) + seconds(server["drain_timeout"])
    probe = workload(objects("default"))["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    assert seconds(server["lb_delay"]) > probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]


def test_the_chart_is_of_this_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
