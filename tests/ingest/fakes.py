"""A retriever that keeps chunks in memory: its contract, without a model. Real gRPC, real statuses."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import grpc.aio

from mesh.errors import InvalidInput, MurpheyError, NotFound, Unavailable
from mesh.server import Hosted, serving
from mesh.settings import ServiceSettings
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceServicer, add_RetrieverServiceServicer_to_server

WINDOW_TOKENS = 256


@dataclass
class FakeRetriever(RetrieverServiceServicer):
    """Stores what it is sent. `gate` closed holds every UpsertChunks; `failures` are raised by the next calls.

    Chunks that hold the text `refused` are refused, with all that come in the same call.
    """

    collections: set[str] = field(default_factory=lambda: {"default"})
    chunk_tokens: int = 0
    chunks: dict[str, pb.Chunk] = field(default_factory=dict)
    live: dict[str, str] = field(default_factory=dict)
    embedded: Counter[str] = field(default_factory=Counter)
    failures: list[MurpheyError] = field(default_factory=list)
    refused: str = ""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    upserting: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def found(self, document: str | None = None) -> list[pb.Chunk]:
        """The chunks that a search could find, in order."""
        live = [chunk for chunk in self.chunks.values() if self.live.get(chunk.document) == chunk.version]
        chosen = [chunk for chunk in live if document in (None, chunk.document)]
        return sorted(chosen, key=lambda chunk: (chunk.document, chunk.index))

    def staged(self) -> list[pb.Chunk]:
        """Chunks that no search finds."""
        return [chunk for chunk in self.chunks.values() if self.live.get(chunk.document) != chunk.version]

    async def UpsertChunks(
        self, request: pb.UpsertChunksRequest, context: grpc.aio.ServicerContext
    ) -> pb.UpsertChunksResponse:
        self.upserting.set()
        await self.gate.wait()
        self._check(request.collection)
        assert request.staged
        assert 1 <= len(request.chunks) <= 2048
        for chunk in request.chunks:
            assert chunk.text
            self._check_text(chunk)
        for chunk in request.chunks:
            twin = self.chunks.get(chunk.same_as)
            if twin is None or (twin.headings, twin.text) != (chunk.headings, chunk.text):
                self.embedded[chunk.id] += 1
            self.chunks[chunk.id] = chunk
        return pb.UpsertChunksResponse(stored=len(request.chunks), embedded=len(request.chunks))

    async def PublishDocuments(
        self, request: pb.PublishDocumentsRequest, context: grpc.aio.ServicerContext
    ) -> pb.PublishDocumentsResponse:
        self._check(request.collection)
        removed = 0
        there = {(chunk.document, chunk.version) for chunk in self.chunks.values()}
        for version in request.documents:
            if (version.document, version.version) not in there:
                continue
            self.live[version.document] = version.version
            removed += self._drop([chunk for chunk in self.staged() if chunk.document == version.document])
        return pb.PublishDocumentsResponse(removed=removed)

    async def SetDocumentMetadata(
        self, request: pb.SetDocumentMetadataRequest, context: grpc.aio.ServicerContext
    ) -> pb.SetDocumentMetadataResponse:
        self._check(request.collection)
        updated = 0
        for described in request.documents:
            for chunk in self.found(described.document):
                if chunk.version == described.version:
                    chunk.metadata.CopyFrom(described.metadata)
                    updated += 1
        return pb.SetDocumentMetadataResponse(updated_chunks=updated)

    async def DeleteChunks(
        self, request: pb.DeleteChunksRequest, context: grpc.aio.ServicerContext
    ) -> pb.DeleteChunksResponse:
        self._check(request.collection)
        names, version = set(request.documents.documents), request.version
        gone = [
            chunk
            for chunk in self.chunks.values()
            if chunk.document in names or (chunk.document, chunk.version) == (version.document, version.version)
        ]
        for name in names:
            self.live.pop(name, None)
        return pb.DeleteChunksResponse(deleted=self._drop(gone))

    async def ListStoredVersions(
        self, request: pb.ListStoredVersionsRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.ListStoredVersionsResponse]:
        self._check(request.collection)
        counts = Counter((chunk.document, chunk.version) for chunk in self.chunks.values())
        for (document, version), count in counts.items():
            field = "live_chunks" if self.live.get(document) == version else "staged_chunks"
            stored = pb.StoredVersion(document=document, version=version, **{field: count})
            yield pb.ListStoredVersionsResponse(versions=[stored])

    async def ListCollections(
        self, request: pb.ListCollectionsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListCollectionsResponse:
        names = [f"collections/{name}" for name in sorted(self.collections)]
        return pb.ListCollectionsResponse(collections=[pb.Collection(name=name) for name in names])

    async def GetCollection(
        self, request: pb.GetCollectionRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetCollectionResponse:
        self._check(request.name)
        collection = pb.Collection(
            name=request.name, chunking=pb.Chunking(chunk_tokens=self.chunk_tokens), max_embedder_tokens=WINDOW_TOKENS
        )
        return pb.GetCollectionResponse(collection=collection)

    def _check_text(self, chunk: pb.Chunk) -> None:
        if self.refused and self.refused in chunk.text:
            raise InvalidInput(f"The chunk {chunk.id} is refused.", field="chunks")

    def _check(self, collection: str) -> None:
        if self.failures:
            raise self.failures.pop(0)
        if collection.removeprefix("collections/") not in self.collections:
            raise NotFound(f"There is no {collection}.")

    def _drop(self, chunks: list[pb.Chunk]) -> int:
        for chunk in chunks:
            del self.chunks[chunk.id]
        return len(chunks)


class RetrieverSettings(ServiceSettings):
    """Of the fake."""

    service: ClassVar[str] = "retriever"


@asynccontextmanager
async def serving_retriever(fake: FakeRetriever, port: int = 0) -> AsyncIterator[str]:
    """The fake behind a real server; yields its address."""
    hosted = Hosted(
        "murphey.retriever.v1.RetrieverService", lambda server: add_RetrieverServiceServicer_to_server(fake, server)
    )
    async with serving(RetrieverSettings(port=port, drain_s=0.1), [hosted]) as bound:
        yield f"127.0.0.1:{bound}"


def away() -> Unavailable:
    """What a retriever that restarts answers."""
    return Unavailable("The retriever is restarting.")
