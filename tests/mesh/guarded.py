"""A real server that asks for keys, with a servicer that tells who called."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from mesh.access import identity, keys
from mesh.access.identity import Identity
from mesh.access.roles import Scope
from mesh.access.storage import StoredKeys, open_keys
from mesh.server import Hosted, serving
from mesh.settings import ServiceSettings
from murphey.generator.v1 import generator_pb2 as generator_pb
from murphey.generator.v1 import generator_pb2_grpc as generator_grpc
from murphey.ingest.v1 import ingest_pb2 as ingest_pb
from murphey.ingest.v1 import ingest_pb2_grpc as ingest_grpc
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1 import retriever_pb2_grpc as pb_grpc

RETRIEVER = "murphey.retriever.v1.RetrieverService"
GENERATOR = "murphey.generator.v1.GeneratorService"
INGEST = "murphey.ingest.v1.IngestService"


@dataclass
class Retriever(pb_grpc.RetrieverServiceServicer):
    """Notes who calls."""

    callers: list[Identity | None] = field(default_factory=list)

    def _note(self) -> None:
        self.callers.append(identity.current.get())

    async def Search(self, request: pb.SearchRequest, context: grpc.aio.ServicerContext) -> pb.SearchResponse:
        self._note()
        return pb.SearchResponse()

    async def GetCorpusVersion(
        self, request: pb.GetCorpusVersionRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetCorpusVersionResponse:
        self._note()
        return pb.GetCorpusVersionResponse(version="1", removals="1")

    async def DeleteCollection(
        self, request: pb.DeleteCollectionRequest, context: grpc.aio.ServicerContext
    ) -> pb.DeleteCollectionResponse:
        self._note()
        return pb.DeleteCollectionResponse()

    async def DeleteChunks(
        self, request: pb.DeleteChunksRequest, context: grpc.aio.ServicerContext
    ) -> pb.DeleteChunksResponse:
        self._note()
        return pb.DeleteChunksResponse()

    async def ListStoredVersions(
        self, request: pb.ListStoredVersionsRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.ListStoredVersionsResponse]:
        self._note()
        yield pb.ListStoredVersionsResponse()


@dataclass
class Generator(generator_grpc.GeneratorServiceServicer):
    """Has one model, which is never asked, and notes who asks for it."""

    callers: list[Identity | None] = field(default_factory=list)

    async def GetModel(
        self, request: generator_pb.GetModelRequest, context: grpc.aio.ServicerContext
    ) -> generator_pb.GetModelResponse:
        self.callers.append(identity.current.get())
        return generator_pb.GetModelResponse(
            model=generator_pb.Model(name="models/none", version="1", context_tokens=2048)
        )


@dataclass
class Ingest(ingest_grpc.IngestServiceServicer):
    """Counts the requests of an upload that reach it."""

    received: int = 0

    async def UploadDocument(
        self, request_iterator: AsyncIterator[Any], context: grpc.aio.ServicerContext
    ) -> ingest_pb.UploadDocumentResponse:
        async for _ in request_iterator:
            self.received += 1
        return ingest_pb.UploadDocumentResponse()


@dataclass
class Guarded:
    """The server, its keys and its servicers."""

    port: int
    stored: StoredKeys
    retriever: Retriever
    ingest: Ingest
    generator: Generator
    settings: ServiceSettings

    async def key(self, *scopes: Scope, tenant: str = "default", days: float | None = None) -> str:
        """A new key that the server knows."""
        now = datetime.now(UTC)
        expires = None if days is None else now + timedelta(days=days)
        shown, key = keys.issue("test", tenant, frozenset(scopes), now, expires)
        await self.stored.add(key)
        return shown


@asynccontextmanager
async def guarded(data: Path, **settings: Any) -> AsyncIterator[Guarded]:
    """Runs while inside."""
    configured = ServiceSettings(**{"data": data, "drain_s": 0.1, "auth": "keys", **settings})
    retriever, ingest, generator = Retriever(), Ingest(), Generator()
    hosted = [
        Hosted(RETRIEVER, lambda server: pb_grpc.add_RetrieverServiceServicer_to_server(retriever, server)),
        Hosted(INGEST, lambda server: ingest_grpc.add_IngestServiceServicer_to_server(ingest, server)),
        Hosted(GENERATOR, lambda server: generator_grpc.add_GeneratorServiceServicer_to_server(generator, server)),
    ]
    async with (
        open_keys(configured.keys_database_url, data) as stored,
        serving(configured, hosted) as port,
    ):
        yield Guarded(port, stored, retriever, ingest, generator, configured)
