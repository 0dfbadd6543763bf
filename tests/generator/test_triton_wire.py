"""The `triton` engine against a server in this process that speaks Triton's protocol: what a real one does rarely."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc.aio
import pytest

from generator.breaker import BreakerLimits
from generator.engines.base import EngineState, RemoteEnd, RemoteRequest, RemoteText
from generator.engines.triton.engine import TritonEngine
from generator.engines.triton.server import TritonOptions
from generator.requests import FinishReason, Prompt
from mesh.errors import FailedPrecondition, MurpheyError, Overloaded, Unavailable
from murphey.triton import inference_pb2 as pb
from murphey.triton import inference_pb2_grpc as rpc
from tests.generator.test_triton_contracts import ENGINE_IN, LLMAPI_IN, TEXT
from tests.generator.test_triton_responses import response

REQUEST = RemoteRequest(Prompt(text="The secret recipe of our house"), 16)
Reply = Callable[[pb.ModelInferRequest], AsyncIterator[pb.ModelStreamInferResponse]]
CORE_IN = {"input_ids": "INT32", "input_lengths": "INT32", "request_output_len": "INT32", "stop": "BOOL"}


def sends(*responses: pb.ModelInferResponse) -> Reply:
    """These, and the end of the stream."""

    async def reply(_: pb.ModelInferRequest) -> AsyncIterator[pb.ModelStreamInferResponse]:
        for one in responses:
            yield pb.ModelStreamInferResponse(infer_response=one)

    return reply


WELL = sends(response(b"a"), response(b"ab", final=True, reason="stop"))


class Peer(rpc.GRPCInferenceServiceServicer):
    """One model by its inputs; `parts` are those of an ensemble."""

    def __init__(self, inputs: dict[str, str] | None = None, parts: dict[str, dict[str, str]] | None = None) -> None:
        self.models = {"smol": inputs or LLMAPI_IN} | (parts or {})
        self.parts = tuple(parts or {})
        self.reply, self.ready, self.version = WELL, True, "2.51.0"
        self.asked: list[pb.ModelInferRequest] = []
        self.metadata: dict[str, str] = {}
        self.stopped: asyncio.Queue[str] = asyncio.Queue()
        self.port = 0

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    async def ServerMetadata(self, request: Any, context: Any) -> pb.ServerMetadataResponse:
        self.metadata = dict(context.invocation_metadata())
        return pb.ServerMetadataResponse(name="triton", version=self.version)

    async def ModelReady(self, request: Any, context: Any) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=self.ready)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Any) -> pb.ModelMetadataResponse:
        if request.name not in self.models:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{request.name}' is not found")
        kinds = pb.ModelMetadataResponse.TensorMetadata
        inputs = [kinds(name=name, datatype=kind) for name, kind in self.models[request.name].items()]
        outputs = [kinds(name=name, datatype=kind) for name, kind in (TEXT | {"finish_reason": "BYTES"}).items()]
        return pb.ModelMetadataResponse(name=request.name, versions=["1", "3"], inputs=inputs, outputs=outputs)

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Any) -> pb.ModelConfigResponse:
        config = pb.ModelConfig(name=request.name, max_batch_size=8 if self.parts else 0)
        config.model_transaction_policy.decoupled = True
        if request.name == "smol":
            config.ensemble_scheduling.step.extend(pb.ModelEnsembling.Step(model_name=name) for name in self.parts)
        return pb.ModelConfigResponse(config=config)

    async def ModelStreamInfer(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.ModelStreamInferResponse]:
        async for request in request_iterator:
            self.metadata = dict(context.invocation_metadata())
            if request.model_name in self.parts:
                self.stopped.put_nowait(request.id)
                return
            self.asked.append(request)
            async for one in self.reply(request):
                yield one


async def started(peer: Peer) -> grpc.aio.Server:
    server = grpc.aio.server()
    rpc.add_GRPCInferenceServiceServicer_to_server(peer, server)
    peer.port = server.add_insecure_port(f"127.0.0.1:{peer.port}")
    await server.start()
    return server


@asynccontextmanager
async def open_peer(peer: Peer) -> AsyncIterator[Peer]:
    server = await started(peer)
    try:
        yield peer
    finally:
        await server.stop(None)


@asynccontextmanager
async def engine_on(*peers: Peer, key: str | None = None) -> AsyncIterator[TritonEngine]:
    """An engine that looks at its servers only when a test says so."""
    options = TritonOptions("smol", key, 30.0, 60.0, 2048, "r1")
    urls = [peer.url for peer in peers]
    async with TritonEngine(urls, options, BreakerLimits(failures=100, open_s=60), 3600) as engine:
        yield engine


async def completed(engine: TritonEngine) -> tuple[str, RemoteEnd]:
    text, end = "", None
    async with aclosing(engine.run(REQUEST)) as news:
        async for new in news:
            text += new.text if isinstance(new, RemoteText) else ""
            end = new if isinstance(new, RemoteEnd) else end
    assert end is not None
    return text, end


async def failure(engine: TritonEngine) -> tuple[str, MurpheyError]:
    text = ""
    with pytest.raises(MurpheyError) as caught:
        async with aclosing(engine.run(REQUEST)) as news:
            async for new in news:
                text += new.text if isinstance(new, RemoteText) else ""
    return text, caught.value


async def test_a_completion_and_who_made_it() -> None:
    async with open_peer(Peer()) as peer, engine_on(peer, key="sesame") as engine:
        text, end = await completed(engine)
        assert (text, end.finish, end.counted) == ("ab", FinishReason.STOP, False)
        assert end.version == "smol-3-r1-llmapi-triton-2.51.0"
        assert (peer.metadata["authorization"], peer.metadata["triton_grpc_error"]) == ("Bearer sesame", "true")
        assert engine.info is not None
        assert (engine.info.name, engine.info.context_tokens) == ("triton", 2048)
        assert len({request.id for request in peer.asked}) == 1


async def test_a_stream_that_ends_without_an_end_was_cut_off() -> None:
    async with open_peer(Peer()) as peer, engine_on(peer) as engine:
        for said in ([response(b"half")], []):
            peer.reply = sends(*said)
            text, error = await failure(engine)
            assert (text, type(error)) == ("half" if said else "", Unavailable)
            assert "cut a completion off" in error.message


async def test_an_error_in_words_ends_a_stream_that_stays_open() -> None:
    """As servers do that know no `triton_grpc_error`."""

    async def reply(request: pb.ModelInferRequest) -> AsyncIterator[pb.ModelStreamInferResponse]:
        yield pb.ModelStreamInferResponse(infer_response=response(b"half"))
        yield pb.ModelStreamInferResponse(error_message="Executor failed process", infer_response=response(b"N/A"))
        await asyncio.Event().wait()

    async with open_peer(Peer()) as peer, engine_on(peer) as engine:
        peer.reply = reply
        text, error = await failure(engine)
        assert (text, type(error)) == ("half", Unavailable)
        assert "Executor failed" in error.message


async def test_a_full_server_is_left_for_the_next() -> None:
    async def full(_: pb.ModelInferRequest) -> AsyncIterator[pb.ModelStreamInferResponse]:
        yield pb.ModelStreamInferResponse(error_message="Exceeds maximum queue size")

    async with open_peer(Peer()) as one, open_peer(Peer()) as other, engine_on(one, other) as engine:
        one.reply = full
        for _ in range(4):
            assert (await completed(engine))[0] == "ab"
        assert (len(one.asked), len(other.asked)) == (1, 4)
        other.reply = full
        assert isinstance((await failure(engine))[1], Overloaded)


async def test_leaving_an_ensemble_stops_its_engine_by_the_requests_id() -> None:
    async def endless(_: pb.ModelInferRequest) -> AsyncIterator[pb.ModelStreamInferResponse]:
        yield pb.ModelStreamInferResponse(infer_response=response(b"on"))
        await asyncio.Event().wait()

    async with open_peer(Peer(ENGINE_IN, {"tensorrt_llm": CORE_IN})) as peer, engine_on(peer) as engine:
        peer.reply = endless
        async with aclosing(engine.run(REQUEST)) as news:
            async for new in news:
                if isinstance(new, RemoteText):
                    break
        assert await peer.stopped.get() == peer.asked[0].id != ""
        peer.reply = sends(response(b"all"), response(final=True))
        assert (await completed(engine))[0] == "all"
        assert peer.stopped.empty()


async def test_what_a_server_serves_is_looked_at_again() -> None:
    async with open_peer(Peer()) as peer, engine_on(peer) as engine:
        peer.version = "2.73.0"
        await engine.look()
        assert (await completed(engine))[1].version.endswith("triton-2.73.0")
        peer.ready = False
        for _ in range(2):  # a busy server may miss one
            await engine.look()
        assert (engine.state, "not ready" in engine.state_message) == (EngineState.LOADING, True)
        peer.ready, peer.models["smol"] = True, {"INPUT0": "FP32"}
        await engine.look()
        assert engine.state is EngineState.FAILED
        assert "INPUT0 FP32" in engine.state_message
        assert isinstance((await failure(engine))[1], FailedPrecondition)
        peer.models["smol"] = LLMAPI_IN
        await engine.look()
        assert (await completed(engine))[0] == "ab"


async def test_a_server_that_is_back_answers_the_next_request() -> None:
    peer = Peer()
    server = await started(peer)
    async with engine_on(peer) as engine:
        assert (await completed(engine))[0] == "ab"
        await server.stop(None)
        assert isinstance((await failure(engine))[1], Unavailable)
        server = await started(peer)  # on the port that it had
        assert (await completed(engine))[0] == "ab"
    await server.stop(None)
