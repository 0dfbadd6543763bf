"""A generator with the scripted engine in a real process, behind a real server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1.health_pb2_grpc import HealthStub

from generator.app import SERVICE
from generator.host import EngineHost
from generator.models import ModelCatalog, ServedModel
from generator.service import GeneratorServicer
from generator.settings import GeneratorSettings
from generator.tokens import PromptTokenizer
from mesh.access.quotas import Quotas
from mesh.admission import Admission, AdmissionLimits
from mesh.server import Hosted, Readiness, serving
from murphey.generator.v1 import generator_pb2 as pb
from murphey.generator.v1 import generator_pb2_grpc as rpc
from tests.generator.fakes import CONTEXT_TOKENS, launch, prepared_model


class RunningGenerator:
    """What a test talks to, and what it looks into."""

    def __init__(self, stub: rpc.GeneratorServiceStub, health: Any, model: ServedModel) -> None:
        self.stub, self.health, self.model = stub, health, model


async def until(holds: Callable[[], bool]) -> None:
    """Waits until something holds that no event tells of, such as that the server has heard of a cancelled call."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def begun(call: grpc.aio.UnaryStreamCall) -> None:
    """Reads up to the first text; an iterator that is dropped would end the call."""
    event = await call.read()
    while isinstance(event, pb.StreamGenerateResponse) and not event.HasField("delta"):
        event = await call.read()
    assert event, "the stream ended without text"


@asynccontextmanager
async def open_generator(
    folder: Path, limits: AdmissionLimits, step_s: float = 0.001, load_error: str = "", **settings: Any
) -> AsyncIterator[RunningGenerator]:
    """Serves the scripted model on a free port."""
    prepared = prepared_model(folder)
    async with AsyncExitStack() as stack:
        tokenizer = stack.enter_context(closing(PromptTokenizer(prepared)))
        readiness = Readiness()
        engine = launch(prepared, step_s=step_s, load_error=load_error)
        host = await stack.enter_async_context(EngineHost(engine, readiness.set))
        assert host.info is not None
        model = ServedModel(
            "scripted", host.info, prepared.card.vocabulary_tokens, tokenizer, host, Admission(limits),
            limits.running_requests, limits.pending_tokens,
        )  # fmt: skip
        chosen = GeneratorSettings(data=folder, drain_s=0, **settings)
        servicer = GeneratorServicer(ModelCatalog([model]), Quotas(chosen))
        add = partial(rpc.add_GeneratorServiceServicer_to_server, servicer)
        port = await stack.enter_async_context(serving(chosen, [Hosted(SERVICE, add, readiness)]))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        yield RunningGenerator(rpc.GeneratorServiceStub(channel), HealthStub(channel), model)


@pytest.fixture
async def generator(tmp_path: Path) -> AsyncIterator[RunningGenerator]:
    """Room for two requests at once, and as many waiting."""
    async with open_generator(tmp_path, AdmissionLimits(2, 4 * CONTEXT_TOKENS, 4 * CONTEXT_TOKENS)) as running:
        yield running
