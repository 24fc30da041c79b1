"""`deploy/kubernetes` against Kubernetes' own schemas, the real commands, and each other."""

from __future__ import annotations

import copy
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from deploy.prometheus.operator_rules import operator_rules
from gateway.telemetry.metrics import Metrics
from router.cli import GROUP, build_parser
from router.settings import Settings, load_settings
from tests.support.compose import DEPLOY, flags, service
from tests.support.manifests import FOLDER, container, kustomization, objects, of_kind, pods

VERSIONS = ("1.31", "1.34", "1.37")  # 1.31: the oldest whose kubelets know `lifecycle.preStop.sleep` unasked
OPERATOR = {"ServiceMonitor", "PrometheusRule"}  # their schemas are the Prometheus operator's, which no package carries


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(FOLDER / "thinktwice.toml")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_what_the_schema_allows(version: str) -> None:
    for each in objects():
        if each["kind"] not in OPERATOR:
            kubernetes_validate.validate(each, version, strict=True)


def test_a_field_that_does_not_exist_is_found() -> None:
    broken = copy.deepcopy(of_kind("Deployment")["thinktwice"])
    broken["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_every_file_is_applied() -> None:
    listed = {*kustomization()["resources"], *kustomization()["configMapGenerator"][0]["files"]}
    apart = {"kustomization.yaml", "prometheus-adapter.yaml", "first-key.yaml"}
    assert {path.name for path in FOLDER.iterdir()} - listed == apart
    kinds = {each["kind"] for each in objects()}
    wanted = {"Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "CronJob"}
    assert wanted | OPERATOR <= kinds


@pytest.mark.parametrize("name", pods())
def test_a_pod_has_no_rights_it_does_not_need(name: str) -> None:
    spec, only = pods()[name]["spec"], container(name)
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert "limits" in only["resources"] and not only["image"].endswith(":latest")


@pytest.mark.parametrize("name", pods())
def test_what_a_pod_mounts_is_there(name: str) -> None:
    spec = pods()[name]["spec"]
    assert {mount["name"] for mount in container(name)["volumeMounts"]} == {each["name"] for each in spec["volumes"]}
    claimed = {
        each["persistentVolumeClaim"]["claimName"] for each in spec["volumes"] if "persistentVolumeClaim" in each
    }
    assert claimed <= of_kind("PersistentVolumeClaim").keys()
    mapped = {each["configMap"]["name"] for each in spec["volumes"] if "configMap" in each}
    assert mapped <= {each["name"] for each in kustomization()["configMapGenerator"]}


def test_each_shared_folder_has_one_path_and_engines_only_read_policies(settings: Settings) -> None:
    paths = {"state": settings.state.dir, "log": settings.log.dir, "policies": settings.state.dir / "policies"}
    for name in pods():
        for mount in container(name)["volumeMounts"]:
            assert mount["mountPath"] == str(paths.get(mount["name"], mount["mountPath"])), name
    shared = {mount["name"]: mount.get("readOnly", False) for mount in container("vllm")["volumeMounts"]}
    assert shared["policies"] and shared["models"] and not {"state", "log"} & shared.keys()
    for name in ("thinktwice-state", "thinktwice-policies", "thinktwice-log"):
        assert of_kind("PersistentVolumeClaim")[name]["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.mark.parametrize(
    "name, module",
    [
        ("thinktwice", "gateway.commands.serve"),
        ("thinktwice-train", "training.command"),
        ("thinktwice-evaluate", "training.evaluate_command"),
        ("thinktwice-compact", "gateway.commands.log"),
        ("thinktwice-first-key", "gateway.commands.keys"),
    ],
)
def test_the_commands_are_ours(name: str, module: str) -> None:
    args = build_parser(entry_points(group=GROUP)).parse_args(container(name)["args"])
    assert args.run.__module__ == module
    assert container(name).get("command", ["thinktwice"]) == ["thinktwice"]  # the gateway's image starts it


def test_what_is_configured_is_read(settings: Settings) -> None:
    for name in ("thinktwice", "thinktwice-train", "thinktwice-evaluate", "thinktwice-compact"):
        words = container(name)["args"]
        assert words[words.index("--config") + 1] == "/etc/thinktwice/thinktwice.toml"
        assert {"name": "config", "mountPath": "/etc/thinktwice", "readOnly": True} in container(name)["volumeMounts"]
    given = {each["name"]: each["value"] for each in container("thinktwice-first-key")["env"]}
    assert given == {"THINKTWICE_STATE__DIR": str(settings.state.dir)}


def test_ports_names_and_labels_agree(settings: Settings) -> None:
    services = of_kind("Service")
    labels = [pod["metadata"]["labels"] for pod in pods().values()]
    for name, each in services.items():
        assert each["spec"]["selector"] in labels
        [port], [opened] = each["spec"]["ports"], container(name)["ports"]
        assert port["targetPort"] == opened["name"] and port["port"] == opened["containerPort"]
    assert container("thinktwice")["ports"][0]["containerPort"] == settings.server.port
    engines = of_kind("StatefulSet")["vllm"]["spec"]
    named = [f"http://vllm-{number}.{engines['serviceName']}:8000" for number in range(engines["replicas"])]
    assert list(settings.backend.urls) == named and services["vllm"]["spec"]["clusterIP"] == "None"
    asked = urlsplit(settings.training.gateway_url)
    assert asked.hostname in services and asked.port == settings.server.port
    for name, monitor in of_kind("ServiceMonitor").items():  # by name, as the job of the dashboards' queries
        assert monitor["spec"]["selector"]["matchLabels"] == services[name]["metadata"]["labels"]
        assert monitor["spec"]["endpoints"][0]["port"] == services[name]["spec"]["ports"][0]["name"]


def test_the_rules_are_those_of_the_other_deployments() -> None:
    assert (FOLDER / "rules.yaml").read_text() == operator_rules()
    groups = of_kind("PrometheusRule")["thinktwice"]["spec"]["groups"]
    files = [yaml.safe_load((DEPLOY / "prometheus" / name).read_text()) for name in ("rules.yml", "alerts.yml")]
    assert groups == [group for file in files for group in file["groups"]]


def test_every_pod_has_a_network_policy_and_every_rule_one_to_answer_it() -> None:
    labels = [pod["metadata"]["labels"] for pod in pods().values()]
    policies = of_kind("NetworkPolicy").values()
    assert [each["spec"]["podSelector"]["matchLabels"] for each in policies] == [
        {"app": name} for name in _apps(policies)
    ]
    assert set(_apps(policies)) == {each["app"] for each in labels}
    for each in policies:
        assert each["spec"]["policyTypes"] == ["Ingress", "Egress"]
        peers = [peer for rule in each["spec"].get("ingress", ()) for peer in rule["from"]]
        peers += [peer for rule in each["spec"].get("egress", ()) for peer in rule["to"]]
        assert all(peer["podSelector"]["matchLabels"] in labels for peer in peers if "podSelector" in peer)


def test_the_autoscaler_goes_by_a_metric_that_exists(settings: Settings) -> None:
    scaler = of_kind("HorizontalPodAutoscaler")["thinktwice"]["spec"]
    [by_pod] = [each["pods"] for each in scaler["metrics"] if each["type"] == "Pods"]
    name = by_pod["metric"]["name"]
    assert f"\n{name} " in Metrics().render()[0].decode()
    assert int(by_pod["target"]["averageValue"]) == settings.server.shed_inflight // 2
    assert name in (FOLDER / "prometheus-adapter.yaml").read_text()
    deployment = of_kind("Deployment")["thinktwice"]["spec"]
    assert "replicas" not in deployment and scaler["minReplicas"] >= 2
    assert of_kind("PodDisruptionBudget")["thinktwice"]["spec"]["selector"] == deployment["selector"]


def test_a_pod_is_not_killed_before_it_has_drained(settings: Settings) -> None:
    spec = pods()["thinktwice"]["spec"]
    pause = container("thinktwice")["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] >= pause + settings.server.drain_s + 10


def test_one_training_at_a_time_and_none_twice() -> None:
    train = of_kind("CronJob")["thinktwice-train"]["spec"]
    assert train["concurrencyPolicy"] == "Forbid" and train["startingDeadlineSeconds"] < 3600
    assert train["jobTemplate"]["spec"]["backoffLimit"] == 0
    [key] = [each for each in container("thinktwice-train")["env"] if each["name"] == "THINKTWICE_API_KEY"]
    monitor = of_kind("ServiceMonitor")["thinktwice"]["spec"]["endpoints"][0]
    assert key["valueFrom"]["secretKeyRef"] == monitor["authorization"]["credentials"]


def test_vllm_is_started_as_in_compose(settings: Settings) -> None:
    """But for the paths, the memory it leaves, and the places for policies."""
    words = [word.removeprefix("--") for word in container("vllm")["args"] if word.startswith("--")]
    here = {name: value for name, _, value in (word.partition("=") for word in words)}
    there = flags("vllm")
    own = {"served-model-name", "host", "port", "max-loras", "gpu-memory-utilization"}
    assert {k: v for k, v in here.items() if k not in own} == {k: v for k, v in there.items() if k not in own}
    assert container("vllm")["image"] == service("vllm")["image"]
    assert container("vllm")["args"][0] == str(settings.training.model)


def _apps(policies: Any) -> list[str]:
    return [each["metadata"]["name"] for each in policies]
