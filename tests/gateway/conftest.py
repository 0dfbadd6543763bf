"""The real gateway before scripted Python services, which run on the mesh's own server."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import grpc.aio

from mesh import server
from mesh.discovery import SERVICES, full_name
from mesh.errors import Overloaded
from mesh.settings import ServiceSettings
from murphey.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from murphey.orchestrator.v1 import orchestrator_pb2, orchestrator_pb2_grpc

BINARY = Path(__file__).parents[2] / "gateway" / "bin" / "murphey-gateway"


@dataclass
class Orchestrator(orchestrator_pb2_grpc.OrchestratorServiceServicer):
    """Starts an answer and then waits; refuses a question that says so."""

    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def StreamAnswer(
        self, request: orchestrator_pb2.StreamAnswerRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[orchestrator_pb2.StreamAnswerResponse]:
        if request.question.text == "overload":
            raise Overloaded("32 requests run already.", retry_after_s=1.5)
        try:
            yield orchestrator_pb2.StreamAnswerResponse(started=orchestrator_pb2.Started(answer_id="a1"))
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


@dataclass
class Ingest(ingest_pb2_grpc.IngestServiceServicer):
    """Counts the bytes of an upload."""

    async def UploadDocument(
        self, request_iterator: AsyncIterator[ingest_pb2.UploadDocumentRequest], context: grpc.aio.ServicerContext
    ) -> ingest_pb2.UploadDocumentResponse:
        document = ingest_pb2.Document()
        async for request in request_iterator:
            document.size_bytes += len(request.data)
            document.display_name = document.display_name or request.header.display_name
        return ingest_pb2.UploadDocumentResponse(document=document)


@dataclass
class Backends:
    """The services behind, and their addresses."""

    orchestrator: Orchestrator
    ingest: Ingest
    addresses: dict[str, str]


@asynccontextmanager
async def backends(folder: Path, auth: Literal["off", "keys"] = "off") -> AsyncIterator[Backends]:
    """All four services; retriever and generator answer health checks and nothing else."""
    orchestrator, ingest = Orchestrator(), Ingest()
    add = {
        "orchestrator": lambda s: orchestrator_pb2_grpc.add_OrchestratorServiceServicer_to_server(orchestrator, s),
        "ingest": lambda s: ingest_pb2_grpc.add_IngestServiceServicer_to_server(ingest, s),
    }
    settings = ServiceSettings(data=folder, drain_s=0.1, auth=auth)
    async with AsyncExitStack() as stack:
        addresses = {}
        for name in SERVICES:
            hosted = server.Hosted(full_name(name), add.get(name, lambda _: None))
            port = await stack.enter_async_context(server.serving(settings, [hosted]))
            addresses[name] = f"127.0.0.1:{port}"
        yield Backends(orchestrator, ingest, addresses)


@dataclass
class Gateway:
    """A running gateway and the lines that it has logged so far."""

    process: asyncio.subprocess.Process
    address: str
    log: list[dict[str, object]]

    async def ended(self) -> int:
        """The exit code."""
        return await asyncio.wait_for(self.process.wait(), timeout=10)


@asynccontextmanager
async def gateway(addresses: dict[str, str], **environment: str) -> AsyncIterator[Gateway]:
    """Starts the binary on a free port, as `murphey up` does, and ends it."""
    command = [str(BINARY), "--listen=127.0.0.1:0", *(f"--{name}={target}" for name, target in addresses.items())]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(os.environ) | environment,
    )
    assert process.stderr is not None
    first = json.loads(await asyncio.wait_for(process.stderr.readline(), timeout=10))
    assert first["event"] == "listening", first
    running = Gateway(process, first["address"], [first])
    reader = asyncio.create_task(_read(process.stderr, running.log))
    try:
        yield running
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await running.ended()
        await reader


async def _read(stream: asyncio.StreamReader, log: list[dict[str, object]]) -> None:
    async for line in stream:
        log.append(json.loads(line))
