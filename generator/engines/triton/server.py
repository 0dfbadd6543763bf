"""One Triton server: what it serves, whether it is well, and the calls to it.

A request has a stream of its own, since errors in a stream name no request and cancelling one cancels all that is in it. The
key goes into the metadata of each call and nowhere else.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import grpc.aio

from generator.breaker import Breaker
from generator.engines.base import Opened, RemoteEnd, RemoteRequest, RemoteText
from generator.engines.fleet import RemoteServer, Served
from generator.engines.triton.asking import request_of, stop_of
from generator.engines.triton.contracts import Contract, ModelFacts, contract_of, disorders, parts_of
from generator.engines.triton.faults import failure, said
from generator.engines.triton.responses import ResponseReader
from generator.requests import Prompt
from mesh import logs
from mesh.channel import DIRECT_OPTIONS
from mesh.errors import Unavailable
from murphey.triton import inference_pb2 as pb
from murphey.triton.inference_pb2_grpc import GRPCInferenceServiceStub

log = logs.get(__name__)

_BRIEF_S = 5.0
"""For calls that generate nothing."""
_RECONNECT_MS = 500
_RECONNECTED_S = 1.5
"""A server that was away and is back is reached within so long."""
_STATUS_METADATA = ("triton_grpc_error", "true")
"""Errors end a stream with their status; without it they are words in it."""
_NOBODY = RemoteRequest(Prompt(), 1)


@dataclass(frozen=True)
class TritonOptions:
    """How to talk to a server. `silence_s` without a response ends a completion; `model` is its name there."""

    model: str
    api_key: str | None
    connect_s: float
    silence_s: float
    context_tokens: int
    revision: str

    def __repr__(self) -> str:
        return f"TritonOptions({self.model!r})"  # never the key


@dataclass(frozen=True, kw_only=True)
class TritonServed(Served):
    """And by which contract."""

    contract: Contract


class TritonServer(RemoteServer[TritonServed]):
    """One address, such as `grpc://gpu-1:8001`. Its calls raise what `faults.py` makes of their failures."""

    def __init__(self, url: str, options: TritonOptions, breaker: Breaker) -> None:
        super().__init__(url, breaker)
        self._options = options
        self._channel = _channel(url, options.connect_s)
        self._stub: Any = GRPCInferenceServiceStub(self._channel)
        key = (("authorization", f"Bearer {options.api_key}"),) if options.api_key else ()
        self._metadata = (_STATUS_METADATA, *key)
        self._leaving: set[asyncio.Task[None]] = set()
        self._disorder = ""

    async def close(self) -> None:
        """Ends its connection, once the requests that were left are stopped."""
        if self._leaving:
            await asyncio.wait(self._leaving)
        await self._channel.close()

    async def check(self) -> None:
        """As when it was first asked: a server may be back with another model."""
        self.served = await self.describe()

    async def describe(self) -> TritonServed:
        """By the metadata and the configuration of its model."""
        try:
            return await self._described()
        except grpc.aio.AioRpcError as error:
            raise failure(error, self.url, _NOBODY) from error

    async def run(self, request: RemoteRequest) -> AsyncGenerator[Opened | RemoteText | RemoteEnd]:
        """Streams a completion; leaving it cancels the stream, and where that does not reach the engine stops it there."""
        assert self.served is not None  # noqa: S101 - only a server that was described is chosen
        contract, version = self.served.contract, self.served.version
        id_ = uuid.uuid4().hex
        message = request_of(request, contract, id_)
        reader = ResponseReader(contract, self.url)
        self.running += 1
        call: Any = None
        try:
            await self._reached()
            call = self._stub.ModelStreamInfer(metadata=self._metadata)
            await call.write(message)
            await call.done_writing()
            yield Opened(version)
            while not reader.over:
                if text := reader.read(await self._next(call, request)):
                    yield text
            yield RemoteEnd(reader.finish, reader.usage, reader.counted, version)
        except grpc.aio.AioRpcError as error:
            raise failure(error, self.url, request) from error
        finally:
            self.running -= 1
            if call is not None:
                self._leave(call, contract, reader, id_)

    async def _next(self, call: Any, request: RemoteRequest) -> pb.ModelInferResponse:
        try:
            async with asyncio.timeout(self._options.silence_s):
                response = await call.read()
        except TimeoutError as error:
            raise Unavailable(f"The server {self.url} said nothing for too long. Try again.") from error
        if not isinstance(response, pb.ModelStreamInferResponse):
            raise Unavailable(f"The server {self.url} cut a completion off. Try again.")
        if response.error_message:
            raise said(None, response.error_message, self.url, request)
        return response.infer_response

    def _leave(self, call: Any, contract: Contract, reader: ResponseReader, id_: str) -> None:
        """Ends a stream; a request that is not over goes on in the engine of an ensemble until it is told to stop."""
        if reader.final:
            self._beside(_ended(call))
        elif not call.done():
            call.cancel()
        if not reader.over and contract.core is not None:
            self._beside(self._stop(stop_of(contract.core, id_)))

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="leave a stream")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _stop(self, message: pb.ModelInferRequest) -> None:
        """The engine answers with nothing, or with an error for a request that has ended meanwhile; both will do."""
        call = self._stub.ModelStreamInfer(metadata=self._metadata, timeout=_BRIEF_S)
        try:
            await call.write(message)
            await call.done_writing()
            while isinstance(await call.read(), pb.ModelStreamInferResponse):
                pass
        except grpc.aio.AioRpcError as error:
            log.debug("triton_stop", server=self.url, status=error.code().name)

    async def _reached(self) -> None:
        """Waits for a connection that is being made again, so that a server that is back answers the next request."""
        state = self._channel.get_state(try_to_connect=True)
        try:
            async with asyncio.timeout(_RECONNECTED_S):
                while state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state(try_to_connect=True)
        except TimeoutError as error:
            raise Unavailable(f"The server {self.url} cannot be reached. Is it running?") from error

    async def _described(self) -> TritonServed:
        server = await self._brief(self._stub.ServerMetadata, pb.ServerMetadataRequest())
        model = self._options.model
        facts, versions = await self._facts(model)
        parts = {name: (await self._facts(name))[0] for name in parts_of(facts)}
        contract = contract_of(facts, parts)
        ready = await self._brief(self._stub.ModelReady, pb.ModelReadyRequest(name=model))
        if not ready.ready:
            raise Unavailable(f"The server {self.url} has the model {model}, but it is not ready.")
        self._warn_of_disorder(parts if facts.steps else {})
        named = (model, versions[-1] if versions else "", self._options.revision, contract.kind.value)
        version = "-".join(part for part in (*named, f"triton-{server.version}") if part)
        return TritonServed(
            version=version, context_tokens=self._options.context_tokens, fields=contract.fields, contract=contract
        )

    def _warn_of_disorder(self, parts: Mapping[str, ModelFacts]) -> None:
        """Texts that overtake each other cannot be told from those that do not."""
        model = disorders(parts)
        if model and model != self._disorder:
            advice = "set its instance count to 1: else the texts of one stream can come in another order"
            log.warning("triton_disorder", server=self.url, model=model, advice=advice)
        self._disorder = model

    async def _facts(self, model: str) -> tuple[ModelFacts, list[str]]:
        """Of one model, and its versions."""
        metadata = await self._brief(self._stub.ModelMetadata, pb.ModelMetadataRequest(name=model))
        config = (await self._brief(self._stub.ModelConfig, pb.ModelConfigRequest(name=model))).config
        return ModelFacts(
            model=model,
            inputs={one.name: one.datatype for one in metadata.inputs},
            outputs={one.name: one.datatype for one in metadata.outputs},
            required=frozenset(one.name for one in config.input if not one.optional),
            batched=config.max_batch_size > 0,
            decoupled=config.model_transaction_policy.decoupled,
            parameters={name: value.string_value for name, value in config.parameters.items()},
            steps=tuple(dict.fromkeys(step.model_name for step in config.ensemble_scheduling.step)),
            instances=sum(group.count for group in config.instance_group),
        ), list(metadata.versions)

    async def _brief(self, method: Any, message: Any) -> Any:
        return await method(message, metadata=self._metadata, timeout=_BRIEF_S)


async def _ended(call: Any) -> None:
    """Lets the server end a stream that is over by itself: it logs a cancel of such a one as an error."""
    try:
        async with asyncio.timeout(_BRIEF_S):
            while isinstance(await call.read(), pb.ModelStreamInferResponse):
                pass
    except (TimeoutError, grpc.aio.AioRpcError):
        call.cancel()


def _channel(url: str, connect_s: float) -> grpc.aio.Channel:
    """Without limits to the size of messages, as Triton has none."""
    parts = urlsplit(url)
    options = [
        *DIRECT_OPTIONS,
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.min_reconnect_backoff_ms", int(connect_s * 1000)),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS),
        ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, with as many streams as it is allowed
    ]
    if parts.scheme == "grpcs":
        return grpc.aio.secure_channel(parts.netloc, grpc.ssl_channel_credentials(), options=options)
    return grpc.aio.insecure_channel(parts.netloc, options=options)
