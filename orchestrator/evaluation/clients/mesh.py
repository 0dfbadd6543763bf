"""The services of a running mesh, found as every client command finds them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from mesh.discovery import channel_for


@dataclass(frozen=True)
class LiveMesh:
    """Channels to the services."""

    retriever: grpc.aio.Channel
    orchestrator: grpc.aio.Channel
    ingest: grpc.aio.Channel
    generator: grpc.aio.Channel


@asynccontextmanager
async def live_mesh(data: Path, target: str | None) -> AsyncIterator[LiveMesh]:
    """The mesh of a data folder, or behind a target. Unavailable when none runs."""
    async with AsyncExitStack() as stack:
        yield LiveMesh(
            retriever=await stack.enter_async_context(channel_for("retriever", data, target)),
            orchestrator=await stack.enter_async_context(channel_for("orchestrator", data, target)),
            ingest=await stack.enter_async_context(channel_for("ingest", data, target)),
            generator=await stack.enter_async_context(channel_for("generator", data, target)),
        )
