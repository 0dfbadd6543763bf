"""`murphey status` and the metrics of a real mesh: what it shows after a document, a search and an answer."""

import re
from pathlib import Path

import httpx
import pytest

from tests.deploy.queries import parsed, queries, selected
from tests.e2e.conftest import Mesh

pytestmark = pytest.mark.e2e

OF_PROMETHEUS = "up"


def use(mesh: Mesh, collection: str, handbook: Path) -> None:
    """A document, a search and an answer."""
    for arguments in (
        ("ingest", str(handbook)),
        ("search", "How hot is the kiln fired?"),
        ("ask", "How hot is the kiln fired?", "--no-cache"),
    ):
        done = mesh.murphey(*arguments, "--collection", collection)
        assert done.code == 0, done.err


def test_status_tells_how_the_mesh_does(mesh: Mesh, collection: str, handbook: Path) -> None:
    use(mesh, collection, handbook)
    told = mesh.murphey("status", "--json")
    assert told.code == 0, told.err
    status = told.json()
    assert status["healthy"] is True
    services = {service["name"]: service for service in status["services"]}
    assert services.keys() == {"gateway", "orchestrator", "retriever", "generator", "ingest"}
    for name, service in services.items():
        assert service["healthy"], name
        assert service["uptime_s"] > 0, name
        if name != "gateway":
            assert service["version"], name
            assert service["calls"] > 0, name
            assert 0 < service["p50_s"] <= service["p95_s"], name
    assert status["jobs"].keys() == {"queued", "running", "succeeded", "failed", "cancelled"}
    assert status["queues"]["requests for a model"] == 0
    assert status["first_token_p50_s"] > 0
    assert mesh.metric("generator", "murphey_generator_tokens_total", 'kind="completion"') > 0
    assert mesh.metric("generator", "murphey_generator_first_token_seconds_count") > 0
    assert mesh.metric("retriever", "murphey_search_stage_seconds_count", 'stage="store"') > 0
    assert mesh.metric("retriever", "murphey_search_top_score_count", 'mode="hybrid"') > 0
    assert mesh.metric("ingest", "murphey_ingest_stage_seconds_count", 'stage="parse"') > 0
    shown = mesh.murphey("status")
    assert shown.code == 0, shown.err
    assert "orchestrator  ok" in shown.out


def test_a_running_mesh_has_every_metric_that_is_named(mesh: Mesh) -> None:
    shown: set[str] = set()
    for address in mesh.services.values():
        host, port = address.split(":")
        text = httpx.get(f"http://{host}:{int(port) + 10}/metrics").text
        shown |= set(re.findall(r"^# TYPE (\S+) ", text, re.M))
    named = {each.name for _, expression in queries() for each in selected(parsed(expression))}
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in named - {OF_PROMETHEUS}}
    assert families - shown == set()
