"""`murphey status`: readings of metrics, and the status of a small mesh of real servers."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import grpc.aio
import pytest
import typer
from prometheus_client import CollectorRegistry, Histogram, generate_latest, start_http_server

from mesh import discovery, metrics
from mesh.channel import open_channel
from mesh.discovery import MeshAddresses
from mesh.errors import Unavailable
from mesh.health import is_healthy
from mesh.server import Hosted, serving
from mesh.settings import ServiceSettings
from mesh.status import cli
from mesh.status.gathering import Look, look, status
from mesh.status.readings import Readings, parse, read
from murphey.generator.v1 import generator_pb2 as pb
from murphey.generator.v1 import generator_pb2_grpc as pb_grpc
from tests.mesh.test_server import SERVICE, Scripted

SCRAPED = """
# TYPE calls_total counter
calls_total{code="OK",method="Search"} 90
calls_total{code="INTERNAL",method="Search"} 3
calls_total{code="OK",method="Embed"} 7
# TYPE call_seconds histogram
call_seconds_bucket{le="0.1",method="Search"} 50
call_seconds_bucket{le="0.5",method="Search"} 90
call_seconds_bucket{le="+Inf",method="Search"} 100
"""


def test_values_are_summed_over_the_other_labels() -> None:
    readings = parse(SCRAPED)
    assert readings.value("calls_total") == 100
    assert readings.value("calls_total", code="OK") == 97
    assert readings.value("calls_total", code=("INTERNAL", "UNKNOWN")) == 3
    assert readings.value("calls_total", code="OK", method="Embed") == 7
    assert readings.value("nothing_total") == 0
    assert readings.by("method", "calls_total") == {"Search": 93, "Embed": 7}


def test_quantiles_by_hand() -> None:
    readings = parse(SCRAPED)
    # 50 of 100 lie up to 0.1; the 75th is 25 of 40 into the bucket from 0.1 to 0.5; the 95th lies beyond all bounds.
    assert readings.quantile(0.25, "call_seconds") == pytest.approx(0.05)
    assert readings.quantile(0.5, "call_seconds") == pytest.approx(0.1)
    assert readings.quantile(0.75, "call_seconds") == pytest.approx(0.1 + 0.4 * 25 / 40)
    assert readings.quantile(0.95, "call_seconds") == pytest.approx(0.5)
    assert readings.quantile(0.5, "call_seconds", method="Embed") is None


def test_quantiles_of_a_real_histogram_are_within_a_bucket() -> None:
    registry = CollectorRegistry()
    seconds = Histogram("call_seconds", "-", ["method"], buckets=metrics.LATENCY_BUCKETS_S, registry=registry)
    for number in range(1, 1001):
        seconds.labels("a" if number % 2 else "b").observe(number / 1000)
    readings = parse(generate_latest(registry).decode())
    assert readings.quantile(0.5, "call_seconds") == pytest.approx(0.5, abs=0.01)
    assert readings.quantile(0.95, "call_seconds") == pytest.approx(0.95, abs=0.01)


def test_growth_survives_a_restart() -> None:
    before, after = parse("a_total 10\nb_total 7\n"), parse("a_total 15\nb_total 2\nc_total 1\n")
    grown = after.since(before)
    assert [grown.value(name) for name in ("a_total", "b_total", "c_total")] == [5, 2, 1]


def test_what_is_no_metrics_is_nothing(tmp_path: Path) -> None:
    assert not read("127.0.0.1:1")
    with pytest.raises(ValueError, match="html"):
        parse("<html>nothing to see here</html>")
    assert not Readings()


async def test_what_speaks_something_else_is_down_and_shows_nothing() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as mail:
        host, port = mail.sockets[0].getsockname()
        assert not await is_healthy(f"{host}:{port}", "http", timeout_s=20)
        assert not await asyncio.to_thread(read, f"{host}:{port}", 20)


OF_GENERATOR = """
murphey_generator_waiting_requests {waiting}
murphey_generator_tokens_total{{model="a",kind="prompt"}} {prompt}
murphey_generator_tokens_total{{model="a",kind="completion"}} {completion}
murphey_generator_tokens_total{{model="b",kind="completion"}} 5
"""
OF_RETRIEVER = """
murphey_embed_waiting_texts{purpose="document"} 30
murphey_embed_waiting_texts{purpose="query"} 2
murphey_cache_lookups_total{cache="queries",result="hit"} 3
murphey_cache_lookups_total{cache="queries",result="miss"} 1
murphey_cache_lookups_total{cache="queries",result="skipped"} 9
murphey_cache_lookups_total{cache="searches",result="skipped"} 9
"""
OF_INGEST = """
murphey_ingest_jobs{state="queued"} 4
murphey_ingest_jobs{state="running"} 2
"""


def seen(at_s: float, **texts: str) -> Look:
    """What was seen of a mesh whose services show these metrics."""
    names = ("generator", "retriever", "ingest")
    addresses = MeshAddresses(1, "http://door", dict.fromkeys(names, "host:1"), dict.fromkeys(names, "host:2"))
    readings = {name: parse(texts[name]) if name in texts else Readings() for name in names}
    return Look(at_s, addresses, {name: name in texts for name in names}, readings, None)


def test_queues_tokens_caches_and_jobs_by_hand() -> None:
    others = {"retriever": OF_RETRIEVER, "ingest": OF_INGEST}
    before = seen(100, generator=OF_GENERATOR.format(waiting=0, prompt=1000, completion=50), **others)
    now = seen(102, generator=OF_GENERATOR.format(waiting=3, prompt=1400, completion=75), **others)
    found = status(now, before)
    assert found.queues == {"requests for a model": 3, "texts to embed": 32, "documents to ingest": 4}
    assert found.tokens_per_s == {"prompt": 200, "completion": 12.5}
    assert found.cache_hit_rates == {"queries": 0.75}  # what was asked not to look does not count
    assert found.jobs == {"queued": 4, "running": 2}
    assert status(now).tokens_per_s == {}


def test_nothing_is_told_of_a_service_that_is_down() -> None:
    before = seen(100, generator=OF_GENERATOR.format(waiting=0, prompt=1000, completion=50))
    found = status(seen(102, ingest=OF_INGEST), before)
    assert found.queues == {"documents to ingest": 4}
    assert found.tokens_per_s == {}
    assert [service.name for service in found.down] == ["generator", "retriever"]


class Door(BaseHTTPRequestHandler):
    """Stands for the gateway: healthy, and nothing else."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def door() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def scraped() -> Iterator[str]:
    """The address at which this process shows its metrics."""
    server, thread = start_http_server(0, "127.0.0.1")
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@asynccontextmanager
async def small_mesh(data: Path, door: str, scraped: str, retriever: str = "") -> AsyncIterator[str]:
    """A generator behind the real server; it stands for the retriever too unless that has an address."""
    hosted = Hosted(SERVICE, lambda server: pb_grpc.add_GeneratorServiceServicer_to_server(Scripted(), server))
    metrics.announce("mesh")
    async with serving(ServiceSettings(drain_s=0), [hosted]) as port:
        address = f"127.0.0.1:{port}"
        services = {"generator": address, "retriever": retriever or address}
        discovery.publish(MeshAddresses(os.getpid(), door, services, {"generator": scraped}), data)
        yield address
        discovery.withdraw(data)


async def call(address: str, name: str) -> None:
    async with open_channel(address, SERVICE, idempotent=[]) as channel:
        await pb_grpc.GeneratorServiceStub(channel).GetModel(pb.GetModelRequest(name=name), timeout=30)


async def test_calls_and_faults_are_counted(tmp_path: Path, door: str, scraped: str) -> None:
    async with small_mesh(tmp_path, door, scraped) as address:
        before = await look(tmp_path)
        earlier = status(before).services[0]
        await call(address, "models/a")
        for name in ("bug", "field"):  # one is the service's fault, the other the caller's
            with pytest.raises(grpc.aio.AioRpcError):
                await call(address, name)
        found = status(await look(tmp_path), before)
    generator = found.services[0]
    assert (generator.name, generator.healthy, generator.version) == ("generator", True, version("murphey"))
    assert generator.calls is not None
    assert earlier.calls is not None
    assert generator.calls - earlier.calls == 3
    assert (generator.faults or 0) - (earlier.faults or 0) == 1
    assert generator.calls_per_s is not None
    assert generator.calls_per_s > 0
    assert 0 < (generator.p50_s or 0) <= (generator.p95_s or 0)
    assert (generator.uptime_s or 0) > 0
    retriever = found.services[1]
    assert (retriever.healthy, retriever.calls, retriever.p50_s) == (True, None, None)
    assert [service.name for service in found.services] == ["generator", "retriever", "gateway"]
    assert found.down == []


async def test_the_command_tells_a_healthy_mesh(
    tmp_path: Path, door: str, scraped: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with small_mesh(tmp_path, door, scraped):
        capsys.readouterr()  # what the server logs
        await cli._show(tmp_path, watch=False, interval_s=0.01, as_json=True)
        told = json.loads(capsys.readouterr().out)
        await cli._show(tmp_path, watch=False, interval_s=0.01, as_json=False)
        shown = capsys.readouterr().out
    assert told["healthy"] is True
    assert {service["name"]: service["healthy"] for service in told["services"]} == {
        "generator": True, "retriever": True, "gateway": True,
    }  # fmt: skip
    assert {"queues", "tokens_per_s", "cache_hit_rates", "jobs"} <= told.keys()
    assert "generator  ok" in shown
    assert "DOWN" not in shown


async def test_a_service_that_is_down_is_an_error(
    tmp_path: Path, door: str, scraped: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with small_mesh(tmp_path, door, scraped, retriever="127.0.0.1:1"):
        with pytest.raises(typer.Exit) as ended:
            await cli._show(tmp_path, watch=False, interval_s=0.01, as_json=False)
    assert ended.value.exit_code == 1
    printed = capsys.readouterr()
    assert "DOWN" in printed.out
    assert "Not healthy: retriever" in printed.err.replace("\n", " ")


async def test_watching_ends_with_the_mesh(
    tmp_path: Path, door: str, scraped: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with small_mesh(tmp_path, door, scraped):
        capsys.readouterr()  # what the server logs
        watching = asyncio.create_task(cli._show(tmp_path, watch=True, interval_s=0.01, as_json=True))
        async with asyncio.timeout(60):
            while (lines := capsys.readouterr().out) == "":  # noqa: ASYNC110 - what it prints tells
                await asyncio.sleep(0.01)
        assert json.loads(lines.splitlines()[0])["healthy"] is True
        discovery.withdraw(tmp_path)
        with pytest.raises(Unavailable, match="No mesh runs"):
            await watching


def test_no_mesh_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        cli.show_status(tmp_path, watch=False, interval=0.01, as_json=False)
    assert ended.value.exit_code == 1
    assert "No mesh runs on the data folder" in capsys.readouterr().err.replace("\n", " ")


def test_a_mesh_file_of_before_has_no_metrics(tmp_path: Path) -> None:
    old = {"pid": os.getpid(), "http": "http://127.0.0.1:1", "services": {"retriever": "127.0.0.1:2"}}
    (tmp_path / "mesh.json").write_text(json.dumps(old))
    assert discovery.find(tmp_path).metrics == {}


@pytest.mark.parametrize(
    ("seconds", "shown"), [(41.9, "41 s"), (725, "12 min"), (11_100, "3 h 05 min"), (792_000, "9 d 4 h")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert cli.duration(seconds) == shown
