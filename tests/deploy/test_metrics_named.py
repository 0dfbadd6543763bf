"""Dashboards and alerts name only metrics that the services have, with labels that these metrics have.

Every module of the services that makes metrics is imported, and Prometheus's registry is asked what there is; every query
is read by a parser of PromQL, which also checks its types.
"""

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import typer
import yaml
from google.rpc import code_pb2
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard
from prometheus_client import REGISTRY
from typer.core import TyperGroup

from mesh.cli import build
from mesh.discovery import SERVICES
from mesh.up import DEFAULT_PORT_BASE, METRICS_OFFSET, PORT_OFFSETS
from tests.deploy.queries import ALERTS, DASHBOARDS, PROMETHEUS, ROOT, grouped, parsed, queries, selected

plugins.register_default_plugins()
SCRAPED_LABELS = {"job", "instance"}
"""Prometheus puts them on all that it reads."""
OF_PROMETHEUS = {"up": set[str]()}
OF_PROCESSES = {"process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total"}


def modules_with_metrics() -> Iterator[str]:
    for room in ("mesh", *SERVICES):
        for path in sorted((ROOT / room).rglob("*.py")):
            if re.search(
                r"^from mesh(\.metrics)? import .*\b(metrics|counter|gauge|histogram)\b", path.read_text(), re.M
            ):
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Every series that the services can show, with its labels."""
    for module in modules_with_metrics():
        importlib.import_module(module)
    found: dict[str, set[str]] = {**OF_PROMETHEUS}
    for collector, names in REGISTRY._collector_to_names.items():
        labels = set(getattr(collector, "_labelnames", ()))
        for name in names:
            if name.startswith("murphey_") or name in OF_PROCESSES:
                found[name] = labels | ({"le"} if name.endswith("_bucket") else set())
    return found


QUERIES = list(queries())


@pytest.mark.parametrize(("where", "expression"), QUERIES, ids=[where for where, _ in QUERIES])
def test_what_is_named_is_there(where: str, expression: str, exposed: dict[str, set[str]]) -> None:
    tree = parsed(expression)
    found = list(selected(tree))
    assert found, "the query reads no metric"
    known: set[str] = set(SCRAPED_LABELS)
    for each in found:
        assert each.name in exposed, f"no service has the metric {each.name}"
        labels = exposed[each.name] | SCRAPED_LABELS
        assert set(each.matched) <= labels, f"{each.name} has the labels {sorted(labels)}"
        known |= labels
        if "service" in each.matched:
            assert set(each.matched["service"].split("|")) <= set(SERVICES)
        if "code" in each.matched:
            assert set(each.matched["code"].split("|")) <= set(code_pb2.Code.keys())
    assert grouped(tree) <= known


def test_what_the_status_reads_is_there(exposed: dict[str, set[str]]) -> None:
    source = (ROOT / "mesh" / "status" / "gathering.py").read_text()
    named = set(re.findall(r'"((?:murphey|process)_\w+)"', source))
    assert len(named) > 5
    known = exposed.keys() | {name.removesuffix("_bucket") for name in exposed}
    assert named <= known


def test_the_check_finds_what_is_wrong(exposed: dict[str, set[str]]) -> None:
    for expression in (
        "sum(rate(murphey_no_such_total[5m]))",
        'sum(rate(murphey_grpc_calls_total{colour="red"}[5m]))',
        'sum(rate(murphey_grpc_calls_total{service="kitchen"}[5m]))',
        "sum by (colour) (rate(murphey_grpc_calls_total[5m]))",
        "1 + 1",
    ):
        with pytest.raises(AssertionError):
            test_what_is_named_is_there("", expression, exposed)
    with pytest.raises(ValueError, match="expected type matrix"):
        parsed("sum(rate(murphey_grpc_calls_total))")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_are_whole(path: Path) -> None:
    board = json.loads(path.read_text())
    assert board["uid"] == f"murphey-{path.stem}"
    assert board["schemaVersion"] >= 36
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
        assert panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            tree = parsed(target["expr"])
            kept = grouped(tree) or SCRAPED_LABELS  # what is not grouped keeps its labels
            assert named <= kept, f"{panel['title']} shows a label that its query does not keep"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_grafana_knows_every_field(path: Path) -> None:
    """Its own model reads the dashboard and writes it again with nothing lost."""
    board = json.loads(path.read_text())
    written = json.loads(JSONEncoder().encode(dashboard.Dashboard.from_json(board)))
    assert list(lost(board, written)) == []
    board["panels"][0]["gridPosition"] = {}
    again = json.loads(JSONEncoder().encode(dashboard.Dashboard.from_json(board)))
    assert list(lost(board, again)) == [".panels[0].gridPosition"]


def lost(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """Where something that is wanted is missing or different."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key, value in wanted.items():
            yield from lost(value, found[key], f"{path}.{key}") if key in found else (f"{path}.{key}",)
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for place, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from lost(one, other, f"{path}[{place}]")
    elif wanted != found:
        yield path


def test_the_dashboards_asked_for_are_there() -> None:
    assert [path.stem for path in DASHBOARDS] == ["generation", "ingest", "overview", "retrieval"]


def test_alerts_say_what_to_do() -> None:
    assert set(ALERTS) == {"groups"}
    assert len({group["name"] for group in ALERTS["groups"]}) == len(ALERTS["groups"])
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}, rule["alert"]
        assert all(text.endswith((".", "`")) for text in rule["annotations"].values()), rule["alert"]
        assert promql_parser.parse_duration(rule.get("for", "1s"))
        tree = parsed(rule["expr"])
        kept = grouped(tree) or SCRAPED_LABELS
        named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        assert named <= kept, f"{rule['alert']} names a label that its query does not keep"


def test_the_commands_of_runbooks_exist() -> None:
    command = typer.main.get_command(build())
    assert isinstance(command, TyperGroup)
    known = set(command.commands)
    named = set(re.findall(r"`murphey ([a-z]+)", (PROMETHEUS / "alerts.yaml").read_text()))
    assert named
    assert named <= known


def test_prometheus_reads_the_ports_that_murphey_up_opens() -> None:
    settings = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
    (job,) = settings["scrape_configs"]
    targets = [target for static in job["static_configs"] for target in static["targets"]]
    ports = [DEFAULT_PORT_BASE + PORT_OFFSETS[name] + METRICS_OFFSET for name in SERVICES]
    assert sorted(targets) == sorted(f"127.0.0.1:{port}" for port in ports)
    assert job["job_name"] == "murphey"
    assert [(PROMETHEUS / name).is_file() for name in settings["rule_files"]] == [True]
