"""The Helm chart: valid for Kubernetes, and for itself. `test_chart_settings.py` compares it with the services."""

import shutil
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy import helm
from tests.deploy.charts import CHART, PARTS, PYTHON_PARTS, Rendered, render


def test_kubernetes_takes_every_object(rendered: Rendered) -> None:
    """Strictly, or it would not have rendered."""
    kinds = {each["kind"] for each in rendered.objects}
    assert kinds >= {"ConfigMap", "Service", "Deployment", "StatefulSet", "PodDisruptionBudget", "NetworkPolicy"}


@pytest.mark.parametrize(
    ("right", "wrong"), [("podManagementPolicy:", "podManagmentPolicy:"), ("replicas: {{", "replicas: x{{")]
)
def test_an_object_that_kubernetes_refuses_fails(tmp_path: Path, right: str, wrong: str) -> None:
    chart = tmp_path / "murphey"
    shutil.copytree(CHART, chart)
    template = chart / "templates" / "services.yaml"
    template.write_text(template.read_text().replace(right, wrong))
    with pytest.raises(kubernetes_validate.ValidationError):
        render({}, chart)


def test_helm_lint_finds_nothing() -> None:
    report = helm.findings(CHART)
    assert report["errors"] == []
    assert [each for each in report["messages"] if each["severity"] > 1] == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("retriever: {replica: 3}", "replica"),
        ("retriever: {replicas: many}", "/retriever/replicas"),
        ("ingress: {enabled: true, certificate: {enabled: true}}", "ingress.certificate.issuer"),
        ("tls: {certManager: {enabled: true}}", "tls.certManager.issuer"),
        ("tls: {secret: ''}", "/tls/secret"),
        ("tls: {enabled: false}", "enabled"),
        ("internalKey: {secret: ''}", "/internalKey/secret"),
        ("modelServer: {enabled: true}", "modelServer.image"),
        ("generator: {settings: {Max-Tokens: 3}}", "Max-Tokens"),
        ("ingest: {replicas: 2}", "objects_url"),
        ("orchestrator: {secretSettings: {database_url: {name: db}}}", "key"),
    ],
)
def test_wrong_values_are_refused_by_name(values: str, said: str) -> None:
    with pytest.raises(helm.HelmRefuses, match=said):
        render(yaml.safe_load(values))


def test_names_are_unique(rendered: Rendered) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in rendered.objects]
    assert len(names) == len(set(names))


def test_selectors_find_their_pods_alone(rendered: Rendered) -> None:
    pods = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in rendered.of("Deployment", "StatefulSet")
    }
    for each in rendered.of("Deployment", "StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy"):
        spec = each["spec"]
        wanted = spec.get("podSelector", spec.get("selector"))
        wanted = wanted.get("matchLabels", wanted)
        found = [name for name, labels in pods.items() if wanted.items() <= labels.items()]
        assert found == [each["metadata"]["name"]]


def test_services_lead_to_ports_that_are_there(rendered: Rendered) -> None:
    for service in rendered.of("Service"):
        part = service["metadata"]["name"].removeprefix("murphey-")
        ports = {port["name"] for port in rendered.pod(part)["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_references_are_to_objects_of_the_chart_or_to_secrets(rendered: Rendered) -> None:
    accounts = {each["metadata"]["name"] for each in rendered.of("ServiceAccount")}
    workloads = {(each["kind"], each["metadata"]["name"]) for each in rendered.of("Deployment", "StatefulSet")}
    for part in PARTS:
        assert rendered.pod(part)["spec"]["serviceAccountName"] in accounts
    for scaler in rendered.of("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) in workloads
        assert "replicas" not in rendered.named(target["name"].removeprefix("murphey-"), target["kind"])["spec"]


def test_volumes_that_are_mounted_exist(rendered: Rendered) -> None:
    for workload in rendered.of("Deployment", "StatefulSet"):
        spec = workload["spec"]["template"]["spec"]
        claims = workload["spec"].get("volumeClaimTemplates", [])
        volumes = [each["name"] for each in spec.get("volumes", [])] + [each["metadata"]["name"] for each in claims]
        mounted = {
            mount["name"]
            for container in (*spec["containers"], *spec.get("initContainers", []))
            for mount in container.get("volumeMounts", [])
        }
        assert mounted == set(volumes)


def test_containers_may_do_nothing_that_they_need_not(rendered: Rendered) -> None:
    for part in PARTS:
        spec = rendered.pod(part)["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in (*spec["containers"], *spec.get("initContainers", [])):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def test_services_of_the_namespace_set_no_settings(rendered: Rendered) -> None:
    """A Service murphey-retriever would put MURPHEY_RETRIEVER_PORT=tcp://… into every pod's environment."""
    for workload in rendered.of("Deployment", "StatefulSet"):
        assert workload["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_every_service_reaches_the_database_with_the_keys(rendered: Rendered) -> None:
    for part in PYTHON_PARTS:
        leaves = rendered.named(part, "NetworkPolicy")["spec"]["egress"]
        assert 5432 in [port["port"] for rule in leaves for port in rule["ports"]], part
    gateway = rendered.named("gateway", "NetworkPolicy")["spec"]["egress"]
    assert 5432 not in [port["port"] for rule in gateway for port in rule["ports"]]


def test_calls_go_where_the_network_policies_let_them(rendered: Rendered) -> None:
    for part in PARTS:
        for callee in PYTHON_PARTS:
            target = rendered.environment(part).get(f"MURPHEY_{part.upper()}_{callee.upper()}")
            if target is None:
                continue
            port = int(target.rpartition(":")[2])
            assert port == rendered.pod(callee)["spec"]["containers"][0]["ports"][0]["containerPort"]
            leaves = rendered.named(part, "NetworkPolicy")["spec"]["egress"]
            enters = rendered.named(callee, "NetworkPolicy")["spec"]["ingress"]
            assert allowed(leaves, "to", rendered.pod(callee), port), f"{part} may not call {callee}"
            assert allowed(enters, "from", rendered.pod(part), port), f"{callee} may not be called by {part}"


def test_what_nothing_calls_is_not_let_through(defaults: Rendered) -> None:
    enters = defaults.named("generator", "NetworkPolicy")["spec"]["ingress"]
    assert not allowed(enters, "from", defaults.pod("ingest"), 7403)
    assert not allowed(enters, "from", defaults.pod("retriever"), 7403)


def allowed(rules: list[dict[str, Any]], side: str, pod: dict[str, Any], port: int) -> bool:
    """Whether a rule has the port, and a pod's labels among its peers."""
    return any(
        peer.get("podSelector", {}).get("matchLabels", {"": ""}).items() <= pod["metadata"]["labels"].items()
        for rule in rules
        if port in [each["port"] for each in rule["ports"]]
        for peer in rule.get(side, [])
    )
