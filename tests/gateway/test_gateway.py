"""The built gateway between Python on both sides: what Go's own tests of it cannot show."""

import asyncio
import json
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from mesh import errors
from mesh.access import keys
from mesh.access.credentials import Access
from mesh.access.roles import Scope
from mesh.access.storage import open_keys
from mesh.channel import OPEN, open_channel
from mesh.discovery import SERVICES, full_name
from murphey.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from murphey.orchestrator.v1 import orchestrator_pb2, orchestrator_pb2_grpc
from tests.gateway.conftest import BINARY, backends, gateway

pytestmark = pytest.mark.e2e

ORCHESTRATOR, INGEST = full_name("orchestrator"), full_name("ingest")


def question(text: str) -> orchestrator_pb2.StreamAnswerRequest:
    return orchestrator_pb2.StreamAnswerRequest(question=orchestrator_pb2.Question(text=text))


async def test_one_target_routes_every_service_of_a_python_client(tmp_path: Path) -> None:
    """The mesh's own channels, health check included, as `murphey --target` opens them."""
    async with backends(tmp_path) as behind, gateway(behind.addresses) as running:
        channel = open_channel(running.address, INGEST, idempotent=[])
        upload = ingest_pb2_grpc.IngestServiceStub(channel).UploadDocument()
        await upload.write(ingest_pb2.UploadDocumentRequest(header=ingest_pb2.UploadHeader(display_name="a.bin")))
        for _ in range(8):
            await upload.write(ingest_pb2.UploadDocumentRequest(data=bytes(1 << 20)))
        await upload.done_writing()
        document = (await upload).document
        assert (document.display_name, document.size_bytes) == ("a.bin", 8 << 20)
        await channel.close()

        channel = open_channel(running.address, ORCHESTRATOR, idempotent=[])
        stub = orchestrator_pb2_grpc.OrchestratorServiceStub(channel)
        with pytest.raises(errors.Overloaded) as refused, errors.translated("orchestrator"):
            await anext(aiter(stub.StreamAnswer(question("overload"))))
        assert refused.value.retry_after_s == 1.5
        call = stub.StreamAnswer(question("wait"))
        assert (await anext(aiter(call))).started.answer_id == "a1"
        call.cancel()
        await asyncio.wait_for(behind.orchestrator.cancelled.wait(), timeout=5)
        await channel.close()


async def test_http_errors_are_those_of_the_python_services(tmp_path: Path) -> None:
    async with backends(tmp_path) as behind, gateway(behind.addresses) as running, httpx.AsyncClient() as client:
        body = {"question": {"text": "overload"}}
        answer = await client.post(f"http://{running.address}/v1/answers:stream", json=body)
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "2"
        assert answer.json()["message"] == "32 requests run already."
        assert "overload" not in json.dumps(running.log)


async def test_a_closed_http_stream_is_cancelled_in_the_service(tmp_path: Path) -> None:
    async with backends(tmp_path) as behind, gateway(behind.addresses) as running, httpx.AsyncClient() as client:
        url, headers = f"http://{running.address}/v1/answers:stream", {"Accept": "text/event-stream"}
        async with client.stream("POST", url, json={"question": {"text": "wait"}}, headers=headers) as stream:
            lines = stream.aiter_lines()
            assert [await anext(lines), json.loads((await anext(lines)).removeprefix("data: "))] == [
                "event: started",
                {"started": {"answerId": "a1", "standaloneQuestion": "", "furtherSearches": []}},
            ]
            assert not behind.orchestrator.cancelled.is_set()
        await asyncio.wait_for(behind.orchestrator.cancelled.wait(), timeout=1)


async def test_it_stops_at_once_though_clients_watch_its_health(tmp_path: Path) -> None:
    async with backends(tmp_path) as behind, gateway(behind.addresses) as running:
        channel = open_channel(running.address, ORCHESTRATOR, idempotent=[])
        await asyncio.wait_for(channel.channel_ready(), timeout=5)
        started = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0
        assert time.monotonic() - started < 3, "an idle client kept it for its whole drain"
        await channel.close()


async def test_it_ends_with_its_supervisor() -> None:
    nowhere: dict[str, str] = dict.fromkeys(SERVICES, "127.0.0.1:1")
    async with gateway(nowhere, MURPHEY_SUPERVISED="1") as running:
        assert running.process.stdin is not None
        running.process.stdin.close()
        assert await running.ended() == 0
    assert "supervisor_gone" in [line["event"] for line in running.log]


async def test_an_address_that_others_can_reach_is_refused() -> None:
    process = await asyncio.create_subprocess_exec(BINARY, "--listen=0.0.0.0:0", stderr=asyncio.subprocess.PIPE)
    _, said = await asyncio.wait_for(process.communicate(), timeout=10)
    assert process.returncode == 2
    assert b"0.0.0.0" in said
    assert b"loopback" in said


async def test_a_key_comes_through_by_http_and_by_grpc(tmp_path: Path) -> None:
    shown, key = keys.issue("test", "default", frozenset({Scope.READ}), datetime.now(UTC), None)
    async with open_keys("", tmp_path) as stored:
        await stored.add(key)
    bearer, header = ("authorization", f"Bearer {shown}"), {"X-Api-Key": shown}
    async with (
        backends(tmp_path, auth="keys") as behind,
        gateway(behind.addresses) as running,
        httpx.AsyncClient(base_url=f"http://{running.address}") as client,
    ):
        assert (await client.get("/healthz")).status_code == 200
        body = {"question": {"text": "overload"}}
        refused = await client.post("/v1/answers:stream", json=body)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        for shows in (dict([bearer]), header):  # who gets in meets the overload behind
            assert (await client.post("/v1/answers:stream", json=body, headers=shows)).status_code == 429
        denied = await client.post("/v1/documents", files={"file": ("a.txt", b"A text.")}, headers=header)
        assert denied.status_code == 403
        for access, error in ((OPEN, errors.Unauthenticated), (Access(lambda: [bearer]), errors.Overloaded)):
            async with open_channel(running.address, ORCHESTRATOR, [], access) as channel:
                stub = orchestrator_pb2_grpc.OrchestratorServiceStub(channel)  # pyright: ignore[reportArgumentType]
                with pytest.raises(error), errors.translated("orchestrator"):
                    await anext(aiter(stub.StreamAnswer(question("overload"))))  # pyright: ignore[reportArgumentType]
        assert shown.split("_", 2)[2] not in json.dumps(running.log)
