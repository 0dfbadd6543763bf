"""The server around every service: errors, deadlines, health, drain and settings, over real connections."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from prometheus_client import REGISTRY

from mesh import deadline, errors
from mesh.channel import open_channel
from mesh.health import is_healthy
from mesh.server import Hosted, serving
from mesh.settings import ServiceSettings
from murphey.generator.v1 import generator_pb2 as pb
from murphey.generator.v1 import generator_pb2_grpc as pb_grpc

SERVICE = "murphey.generator.v1.GeneratorService"


class Scripted(pb_grpc.GeneratorServiceServicer):
    """Does what the model's name says; stands for any servicer."""

    def __init__(self) -> None:
        self.seen_remaining_s: float | None = None
        self.stream_closed = asyncio.Event()

    async def GetModel(self, request: pb.GetModelRequest, context: grpc.aio.ServicerContext) -> pb.GetModelResponse:
        if request.name == "raise":
            raise errors.Overloaded("Full.", retry_after_s=1.5)
        if request.name == "field":
            raise errors.InvalidInput("Bad name.", field="name")
        if request.name == "bug":
            raise RuntimeError("secret of the house")
        self.seen_remaining_s = deadline.remaining_s(60)
        return pb.GetModelResponse(model=pb.Model(name=request.name))

    async def StreamGenerate(
        self, request: pb.StreamGenerateRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        try:
            for number in range(1_000_000):
                yield pb.StreamGenerateResponse(delta=pb.Delta(text=str(number)))
                if request.model == "three" and number == 2:
                    return
                await asyncio.sleep(0.001)
        finally:
            self.stream_closed.set()


@asynccontextmanager
async def mesh_of(servicer: Scripted, drain_s: float = 1) -> AsyncIterator[pb_grpc.GeneratorServiceStub]:
    settings = ServiceSettings(drain_s=drain_s)
    hosted = Hosted(SERVICE, lambda server: pb_grpc.add_GeneratorServiceServicer_to_server(servicer, server))
    async with serving(settings, [hosted]) as port:
        channel = open_channel(f"127.0.0.1:{port}", SERVICE, idempotent=["GetModel"])
        try:
            yield pb_grpc.GeneratorServiceStub(channel)
        finally:
            await channel.close()


async def failure(call: grpc.aio.UnaryUnaryCall) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_domain_error_reaches_the_client_whole() -> None:
    async with mesh_of(Scripted()) as stub:
        error = await failure(stub.GetModel(pb.GetModelRequest(name="raise"), timeout=20))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    restored = errors.from_rpc_error(error, "generator")
    assert isinstance(restored, errors.Overloaded)
    assert (restored.message, restored.retry_after_s) == ("Full.", 1.5)


async def test_field_and_service_are_in_the_details() -> None:
    async with mesh_of(Scripted()) as stub:
        error = await failure(stub.GetModel(pb.GetModelRequest(name="field"), timeout=20))
    status = rpc_status.from_call(cast(grpc.Call, error))
    assert status is not None
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad_request)
    assert (info.domain, info.reason, info.metadata["service"]) == ("murphey", "INVALID_INPUT", "mesh")
    assert bad_request.field_violations[0].field == "name"


async def test_a_bug_tells_the_client_nothing() -> None:
    async with mesh_of(Scripted()) as stub:
        error = await failure(stub.GetModel(pb.GetModelRequest(name="bug"), timeout=20))
    assert error.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in (error.details() or "")


@pytest.mark.parametrize("method", ["GetModel", "StreamGenerate"])
async def test_bytes_that_are_no_message_are_the_callers_mistake(method: str) -> None:
    hosted = Hosted(SERVICE, lambda server: pb_grpc.add_GeneratorServiceServicer_to_server(Scripted(), server))
    async with (
        serving(ServiceSettings(drain_s=0), [hosted]) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        call = channel.stream_unary(f"/{SERVICE}/{method}")(iter([b"\x0a\xff"]), timeout=20)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "cannot be read" in (caught.value.details() or "")


async def test_deadline_is_carried_to_the_handler() -> None:
    servicer = Scripted()
    async with mesh_of(servicer) as stub:
        await stub.GetModel(pb.GetModelRequest(name="x"), timeout=40)
        assert servicer.seen_remaining_s is not None
        assert 10 < servicer.seen_remaining_s <= 40
        await stub.GetModel(pb.GetModelRequest(name="x"))
        assert servicer.seen_remaining_s == 60


def ended(code: str) -> float:
    labels = {"service": "mesh", "method": "StreamGenerate", "code": code}
    return REGISTRY.get_sample_value("murphey_grpc_calls_total", labels) or 0


async def test_who_gives_up_is_told_from_whose_time_is_over() -> None:
    cancelled, over = ended("CANCELLED"), ended("DEADLINE_EXCEEDED")
    async with mesh_of(Scripted()) as stub:
        call = stub.StreamGenerate(pb.StreamGenerateRequest(), timeout=60)
        await call.read()
        call.cancel()
    assert (ended("CANCELLED"), ended("DEADLINE_EXCEEDED")) == (cancelled + 1, over)
    for timeout_s in (0.5, 5, 50):  # on a slow machine the shortest may be over before the call begins
        async with mesh_of(Scripted()) as stub:
            with pytest.raises(grpc.aio.AioRpcError):
                async for _ in stub.StreamGenerate(pb.StreamGenerateRequest(), timeout=timeout_s):
                    pass
        if ended("DEADLINE_EXCEEDED") > over:
            break
    assert ended("DEADLINE_EXCEEDED") > over


async def test_stream_arrives_in_order() -> None:
    async with mesh_of(Scripted()) as stub:
        texts = [event.delta.text async for event in stub.StreamGenerate(pb.StreamGenerateRequest(model="three"))]
    assert texts == ["0", "1", "2"]


async def test_cancelled_stream_closes_the_handler() -> None:
    servicer = Scripted()
    async with mesh_of(servicer) as stub:
        call = stub.StreamGenerate(pb.StreamGenerateRequest())
        await call.read()
        call.cancel()
        await asyncio.wait_for(servicer.stream_closed.wait(), timeout=20)


async def test_health_is_serving_for_the_server_and_each_service() -> None:
    settings = ServiceSettings(drain_s=0)
    servicer = Scripted()
    hosted = Hosted(SERVICE, lambda server: pb_grpc.add_GeneratorServiceServicer_to_server(servicer, server))
    async with serving(settings, [hosted]) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for name in ("", SERVICE):
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_drain_ends_streams_that_outlast_it() -> None:
    servicer = Scripted()
    hosted = Hosted(SERVICE, lambda server: pb_grpc.add_GeneratorServiceServicer_to_server(servicer, server))
    async with AsyncExitStack() as server:
        port = await server.enter_async_context(serving(ServiceSettings(drain_s=0.2), [hosted]))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = pb_grpc.GeneratorServiceStub(channel).StreamGenerate(pb.StreamGenerateRequest())
            await call.read()
            draining = time.monotonic()
            await server.aclose()
            drained_s = time.monotonic() - draining
            with pytest.raises(grpc.aio.AioRpcError):
                while await call.read():
                    pass
    assert servicer.stream_closed.is_set()
    assert 0.2 <= drained_s < 30


async def test_dead_peer_is_unavailable_and_named() -> None:
    channel = open_channel("127.0.0.1:1", SERVICE, idempotent=[])
    try:
        with pytest.raises(errors.Unavailable, match="generator"), errors.translated("generator"):
            await pb_grpc.GeneratorServiceStub(channel).GetModel(pb.GetModelRequest(), timeout=20)
    finally:
        await channel.close()


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy"])
async def test_the_proxy_to_the_web_is_not_asked_for_a_service_of_the_mesh(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    for exception in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(exception, raising=False)
    async with mesh_of(Scripted()) as stub:
        assert (await stub.GetModel(pb.GetModelRequest(name="here"), timeout=20)).model.name == "here"


async def test_health_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for exception in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(exception, raising=False)

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with (
        serving(ServiceSettings(drain_s=0), []) as port,
        await asyncio.start_server(answer, "127.0.0.1", 0) as http,
    ):
        assert await is_healthy(f"127.0.0.1:{port}", timeout_s=20)
        host, http_port = http.sockets[0].getsockname()
        assert await is_healthy(f"{host}:{http_port}", "http", timeout_s=20)
