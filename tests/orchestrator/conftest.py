"""A running orchestrator over scripted services, each on a real gRPC server on a free port."""

import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from mesh.channel import open_channel
from mesh.server import serving
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from orchestrator.app import SERVICE, open_service
from orchestrator.settings import OrchestratorSettings
from tests.orchestrator.fakes import FakeMesh, fake_mesh

NORMANS = (
    "The Normans gave their name to Normandy, a region in France. They were descended from Norse raiders.\n\n"
    "Their leader Rollo swore fealty to King Charles III in 911. He ruled until 927."
)
TIDES = "Tides are caused by the gravity of the moon. The sun adds to them.\n\nSpring tides come twice a month."


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[None]:
    """Services run in this process: their logs stay out of what a command prints."""
    structlog.reset_defaults()  # what a test of another room has configured goes through other processors
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))
    yield
    structlog.reset_defaults()


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[FakeMesh]:
    async with fake_mesh(tmp_path) as running:
        running.add_document("normans.txt", NORMANS)
        running.add_document("tides.txt", TIDES)
        yield running


@dataclass
class Client:
    """What a user of the orchestrator has."""

    stub: OrchestratorServiceStub
    target: str

    async def events(self, text: str, **fields: object) -> list[pb.StreamAnswerResponse]:
        """All events of a streamed answer."""
        request = pb.StreamAnswerRequest(question=pb.Question(text=text, **fields))  # pyright: ignore[reportArgumentType]
        return [event async for event in self.stub.StreamAnswer(request, timeout=20)]

    async def answer(self, text: str, **fields: object) -> pb.AnswerResponse:
        """A whole answer."""
        request = pb.AnswerRequest(question=pb.Question(text=text, **fields))  # pyright: ignore[reportArgumentType]
        return await self.stub.Answer(request, timeout=20)


@pytest.fixture
def settings(mesh: FakeMesh, tmp_path: Path) -> OrchestratorSettings:
    return OrchestratorSettings(
        data=tmp_path, retriever=mesh.target, generator=mesh.target, ingest=mesh.target, drain_s=0, max_answers=4, max_wait_s=0,
        answer_cache_mb=0,  # a script may change between two questions that are the same
    )  # fmt: skip


@pytest.fixture
async def client(settings: OrchestratorSettings) -> AsyncIterator[Client]:
    async with open_service(settings) as hosted, serving(settings, hosted) as port:
        target = f"127.0.0.1:{port}"
        async with open_channel(target, SERVICE, idempotent=[]) as channel:
            yield Client(OrchestratorServiceStub(channel), target)
