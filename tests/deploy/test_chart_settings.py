"""The chart against the services: every setting that it sets is one, with a value that its service takes, and every metric
that it scales by is one that the service has."""

import importlib
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pydantic import ValidationError

from ingest.jobs import JobState
from mesh.settings import SHARED_FIELDS, ServiceSettings, of_mesh
from tests.deploy.charts import PARTS, PYTHON_PARTS, ROOT, Rendered

GATEWAY = ROOT / "gateway" / "bin" / "murphey-gateway"
POSTGRES = "postgresql+psycopg://murphey@postgres/murphey"


def settings_type(part: str) -> type[ServiceSettings]:
    return getattr(importlib.import_module(f"{part}.settings"), f"{part.capitalize()}Settings")


def gateway_flags() -> set[str]:
    done = subprocess.run([GATEWAY, "--help"], capture_output=True, text=True, check=False)
    return {name.replace("-", "_") for name in re.findall(r"^  -([a-z-]+)", done.stderr, re.MULTILINE)}


def field_of(variable: str, part: str) -> str | None:
    """The setting that a variable sets, by its name alone; None when it is no variable of Murphey's."""
    prefix = f"MURPHEY_{part.upper()}_"
    if variable.startswith(prefix):
        return variable.removeprefix(prefix).lower()
    shared = variable.removeprefix("MURPHEY_").lower()
    return shared if variable.startswith("MURPHEY_") else None


@pytest.mark.parametrize("part", PARTS)
def test_every_variable_is_a_setting(rendered: Rendered, part: str) -> None:
    known = gateway_flags() if part == "gateway" else set(settings_type(part).model_fields)
    assert "drain_s" in known
    for variable in rendered.environment(part):
        field = field_of(variable, part)
        if field is None:
            assert variable in {"HOME", "HF_HOME", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
            continue
        assert field in known, f"{part} has no setting for {variable}"
        if not variable.startswith(f"MURPHEY_{part.upper()}_"):
            assert part != "gateway"
            assert field in SHARED_FIELDS


@pytest.mark.parametrize("part", PYTHON_PARTS)
def test_the_service_takes_every_value(
    rendered: Rendered, part: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The address among them, at which kubelet and Prometheus reach it, and which it refuses without TLS and keys."""
    monkeypatch.chdir(tmp_path)
    set_as_in(rendered, part, monkeypatch)
    settings: Any = settings_type(part)()
    assert settings.host == settings.metrics_host == "0.0.0.0"
    assert settings.keys_database_url == POSTGRES
    assert of_mesh(tmp_path).keys_database_url == POSTGRES, "`murphey keys` in the pod"
    container = rendered.pod(part)["spec"]["containers"][0]
    assert [settings.port, settings.metrics_port] == [port["containerPort"] for port in container["ports"]]
    assert settings.data == Path("/data")
    mounted = {Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    assert {settings.data, settings.models} <= mounted | ({Path("/models")} if part == "orchestrator" else set())
    if part in ("orchestrator", "ingest"):
        assert settings.database_url == POSTGRES
    if part == "retriever":
        assert settings.store == "server"


def set_as_in(rendered: Rendered, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MURPHEY_")]:
        monkeypatch.delenv(name)
    for name, value in rendered.environment(part).items():
        monkeypatch.setenv(name, POSTGRES if value == "secret" else value)


@pytest.mark.parametrize("part", PYTHON_PARTS)
@pytest.mark.parametrize("taken_away", ["MURPHEY_AUTH", "MURPHEY_TLS_CERTIFICATE"])
def test_without_tls_and_keys_the_address_is_refused(
    defaults: Rendered, part: str, taken_away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_as_in(defaults, part, monkeypatch)
    monkeypatch.delenv(taken_away)
    monkeypatch.delenv(f"MURPHEY_{part.upper()}_AUTH", raising=False)
    with pytest.raises(ValidationError, match=r"0\.0\.0\.0 is not a loopback address|belong together"):
        settings_type(part)()


def test_the_gateway_takes_every_value(rendered: Rendered) -> None:
    """It begins, and ends for want of the certificates, which only the cluster has."""
    environment = rendered.environment("gateway") | {"MURPHEY_GATEWAY_LISTEN": "0.0.0.0:0"}
    done = subprocess.run([GATEWAY], capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert "/etc/murphey/tls" in done.stderr


def test_pods_get_the_time_that_their_calls_get(rendered: Rendered) -> None:
    for part in PARTS:
        spec = rendered.pod(part)["spec"]
        drain_s = float(rendered.environment(part)[f"MURPHEY_{part.upper()}_DRAIN_S"])
        pause_s = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert spec["terminationGracePeriodSeconds"] >= pause_s + drain_s + 10


def test_scaling_is_by_metrics_that_the_services_have(rendered: Rendered) -> None:
    for module in ("mesh.interceptor", "generator.app", "ingest.job_counts"):
        importlib.import_module(module)
    known = {metric.name for metric in REGISTRY.collect()}
    for scaler in rendered.of("HorizontalPodAutoscaler"):
        metrics = scaler["spec"]["metrics"]
        assert metrics[0]["resource"]["name"] == "cpu"
        assert {(each.get("pods") or each["external"])["metric"]["name"] for each in metrics[1:]} <= known


def test_own_metrics_scale_where_the_cluster_has_them(rendered: Rendered, request: pytest.FixtureRequest) -> None:
    """The queue and the tokens of the generator; without them, CPU."""
    if "public" in request.node.callspec.id:
        metrics = rendered.named("generator", "HorizontalPodAutoscaler")["spec"]["metrics"][1:]
        assert {each["pods"]["metric"]["name"] for each in metrics} == {
            "murphey_generator_waiting_requests", "murphey_generator_running_tokens",
        }  # fmt: skip
        (queue,) = rendered.named("ingest", "HorizontalPodAutoscaler")["spec"]["metrics"][1:]
        state = queue["external"]["metric"]["selector"]["matchLabels"]["state"]
        assert state in {each.name.lower() for each in JobState}
    else:
        assert all(len(each["spec"]["metrics"]) == 1 for each in rendered.of("HorizontalPodAutoscaler"))


def test_a_model_server_is_what_the_generator_asks(rendered: Rendered, request: pytest.FixtureRequest) -> None:
    environment = rendered.environment("generator")
    if "servers" in request.node.callspec.id:  # the chart is told where they are
        assert environment["MURPHEY_GENERATOR_ENGINE"] == "triton"
        assert environment["MURPHEY_GENERATOR_URLS"].startswith('["grpc://triton-0.triton.models.svc:8001",')
        assert not [each for each in rendered.of("Service") if each["metadata"]["name"].endswith("-model")]
        return
    if not {"vllm", "triton"} & set(request.node.callspec.id.split("-")):
        assert "MURPHEY_GENERATOR_URLS" not in environment
        return
    server = rendered.named("model", "Service")["spec"]["ports"][0]["port"]
    assert environment["MURPHEY_GENERATOR_ENGINE"] == "openai"
    assert environment["MURPHEY_GENERATOR_URLS"] == f'["http://murphey-model.rag.svc.cluster.local:{server}/v1"]'
    limits = rendered.pod("model")["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] >= 1
