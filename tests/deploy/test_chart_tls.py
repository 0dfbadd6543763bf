"""The chart's TLS: certificates are mounted where they are looked for, have the names by which the parts are called, and
probes show and believe them.

grpc-health-probe itself is not run here, and cert-manager makes nothing.
"""

from pathlib import PurePosixPath
from typing import Any

import pytest

from tests.deploy.charts import PARTS, PYTHON_PARTS, Rendered, render

TLS_KEYS = {"tls.crt", "tls.key", "ca.crt"}
"""Of a Secret as cert-manager writes it."""
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def container(rendered: Rendered, part: str) -> dict[str, Any]:
    return rendered.pod(part)["spec"]["containers"][0]


def files(rendered: Rendered, part: str) -> dict[PurePosixPath, str]:
    """The files that a part's container finds in mounted Secrets, each with the Secret's name."""
    volumes = {each["name"]: each["secret"] for each in rendered.pod(part)["spec"]["volumes"] if "secret" in each}
    found: dict[PurePosixPath, str] = {}
    for mount in container(rendered, part)["volumeMounts"]:
        if (secret := volumes.get(mount["name"])) is not None:
            assert mount["readOnly"] is True
            assert "subPath" not in mount, "a file that is mounted alone is never renewed"
            names = {item["path"] for item in secret["items"]} if "items" in secret else TLS_KEYS
            found |= {PurePosixPath(mount["mountPath"]) / name: secret["secretName"] for name in names}
    return found


def command(rendered: Rendered, part: str, probe: str) -> dict[str, str]:
    """The flags of a probe that runs the health program."""
    program, *flags = container(rendered, part)[probe]["exec"]["command"]
    assert program.rpartition("/")[2] == "grpc-health-probe"
    return {name: value for name, _, value in (flag.removeprefix("-").partition("=") for flag in flags)}


def test_files_that_settings_and_probes_name_are_mounted(rendered: Rendered) -> None:
    for part in PARTS:
        there = files(rendered, part)
        named = [value for value in rendered.environment(part).values() if value.startswith("/etc/")]
        named += [value for value in command(rendered, part, "readinessProbe").values() if value.startswith("/etc/")]
        assert len(named) >= 5, part
        assert {PurePosixPath(value) for value in named} <= there.keys(), part
        assert rendered.pod(part)["spec"]["securityContext"]["fsGroup"] == 65532, "else nobody but root reads them"


def test_readiness_and_health_are_asked_over_tls_by_the_name_of_the_part(rendered: Rendered) -> None:
    for part in PARTS:
        flags = command(rendered, part, "readinessProbe")
        assert flags["addr"] == f"127.0.0.1:{container(rendered, part)['ports'][0]['containerPort']}"
        assert flags["tls-server-name"] == f"murphey-{part}.rag.svc.cluster.local"
        assert "tls" in flags
        assert "tls-no-verify" not in flags
        assert ("tls-client-cert" in flags) == (part != "gateway")
        limits_s = [int(flags[name].removesuffix("s")) for name in ("connect-timeout", "rpc-timeout")]
        assert sum(limits_s) < container(rendered, part)["readinessProbe"]["timeoutSeconds"]
    for part in PYTHON_PARTS:
        assert command(rendered, part, "startupProbe") == command(rendered, part, "readinessProbe")


def test_kubelet_asks_nothing_in_plain_of_a_port_that_speaks_tls(rendered: Rendered) -> None:
    for part in PARTS:
        port = container(rendered, part)["ports"][0]["containerPort"]
        for probe in (container(rendered, part)[name] for name in PROBES):
            assert "grpc" not in probe
            if "httpGet" in probe:
                assert (part, probe["httpGet"]["scheme"], probe["httpGet"]["port"]) == ("gateway", "HTTPS", port)
                assert probe["httpGet"]["httpHeaders"] == [{"name": "Host", "value": "localhost"}]
            elif "tcpSocket" in probe:
                assert (part, probe["tcpSocket"]["port"]) == ("generator", port)


def test_callers_believe_and_show_certificates(rendered: Rendered) -> None:
    for part in PYTHON_PARTS:
        environment = rendered.environment(part)
        assert environment["MURPHEY_TLS_CA"] == environment["MURPHEY_TLS_CLIENT_CA"] == "/etc/murphey/tls/ca.crt"
    gateway = rendered.environment("gateway")
    assert gateway["MURPHEY_GATEWAY_SERVICES_CA"] == "/etc/murphey/tls/ca.crt"
    assert gateway["MURPHEY_GATEWAY_SERVICES_CERTIFICATE"] == gateway["MURPHEY_GATEWAY_TLS_CERTIFICATE"]


def test_without_mutual_tls_nobody_is_asked_for_a_certificate_and_none_is_shown() -> None:
    rendered = render({"tls": {"mutual": False}})
    for part in PARTS:
        environment = rendered.environment(part)
        assert "MURPHEY_TLS_CLIENT_CA" not in environment
        assert "MURPHEY_GATEWAY_SERVICES_CERTIFICATE" not in environment
        assert "tls-client-cert" not in command(rendered, part, "readinessProbe")


def test_certificates_are_for_the_names_by_which_the_parts_are_called(
    rendered: Rendered, request: pytest.FixtureRequest
) -> None:
    made = {
        each["spec"]["secretName"]: each["spec"]
        for each in rendered.of("Certificate")
        if each["metadata"]["name"] != "murphey-ingress"
    }
    mounted = {part: files(rendered, part)[PurePosixPath("/etc/murphey/tls/tls.crt")] for part in PARTS}
    if "public" not in request.node.callspec.id:
        assert made == {}
        assert set(mounted.values()) == {"murphey-services-tls"}
        return
    assert made.keys() == set(mounted.values())
    for part in PARTS:
        issued = made[mounted[part]]
        assert {"server auth", "client auth"} <= set(issued["usages"])
        called = {
            target.removeprefix("dns:///").rpartition(":")[0]
            for caller in PARTS
            if (target := rendered.environment(caller).get(f"MURPHEY_{caller.upper()}_{part.upper()}"))
        }
        assert called | {"localhost", f"murphey-{part}"} <= set(issued["dnsNames"])
        assert called or part == "gateway"


def test_the_gateway_answers_for_the_names_in_its_certificate(rendered: Rendered) -> None:
    hosts = rendered.environment("gateway")["MURPHEY_GATEWAY_ALLOWED_HOSTS"].split(",")
    assert {"localhost", "murphey-gateway", "murphey-gateway.rag.svc.cluster.local"} <= set(hosts)
    for ingress in rendered.of("Ingress"):
        assert ingress["spec"]["rules"][0]["host"] in hosts
        assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/backend-protocol"] == "HTTPS"


def test_sidecars_are_told_what_they_cannot_read(rendered: Rendered) -> None:
    for part in PARTS:
        (port,) = rendered.named(part, "Service")["spec"]["ports"]
        assert port["appProtocol"] == ("https" if part == "gateway" else "tls")
        assert port["name"].startswith(port["appProtocol"])
