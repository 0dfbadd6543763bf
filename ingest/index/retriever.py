"""The chunk index of a mesh: its retriever, over gRPC. Each call is made for the tenant whose collection it is about."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

import grpc.aio

from ingest.chunking import RECURSIVE, SENTENCE, STRUCTURE, ChunkSize
from ingest.index.chunk_index import (
    CollectionIndexes,
    Description,
    DocumentChunks,
    IndexReplaced,
    IndexTarget,
    NewIndex,
    StoredVersion,
)
from ingest.metadata_messages import to_struct
from ingest.place_messages import chunk_place
from mesh.access.credentials import Access
from mesh.access.tenants import tenant_of
from mesh.channel import OPEN, open_channel
from mesh.deadline import CallOptions, call_options
from mesh.errors import FailedPrecondition, translated
from mesh.names import collection_id, collection_name
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

NAME = "murphey.retriever.v1.RetrieverService"
IDEMPOTENT = ["UpsertChunks", "PublishDocuments", "SetDocumentMetadata", "DeleteChunks", "GetCollection",
              "BuildIndex", "SwapIndex", "DropIndex"]  # fmt: skip
QUICK_TIMEOUT_S = 10.0
STAGE_TIMEOUT_S = 300.0
"""Embedding a call's chunks takes a second or two; on a machine that is busy with all else, much longer."""
PREPARE_TIMEOUT_S = 600.0
"""An embedder is converted for its machine when it is named for the first time."""
MAX_DOCUMENTS = 1000
INDEX_VERSION = "index_version"
"""The field at fault when an index is not in use any more."""
SPLITTERS = {pb.SPLITTER_STRUCTURE: STRUCTURE, pb.SPLITTER_RECURSIVE: RECURSIVE, pb.SPLITTER_SENTENCE: SENTENCE}


class RetrieverIndex:
    """Calls the retriever. One per process."""

    def __init__(self, channel: grpc.aio.Channel, default_chunk_tokens: int) -> None:
        self._channel = channel
        self._stub = RetrieverServiceStub(channel)
        self._default_chunk_tokens = default_chunk_tokens

    @classmethod
    def open(cls, target: str, default_chunk_tokens: int, access: Access = OPEN) -> "RetrieverIndex":
        """At `host:port` or a gRPC target, with what the retriever asks of its callers."""
        return cls(open_channel(target, NAME, IDEMPOTENT, access), default_chunk_tokens)

    async def close(self) -> None:
        """Ends the channel."""
        await self._channel.close()

    async def indexes(self, collection: str) -> CollectionIndexes:
        """The collection's indexes, each with the collection's own sizes, or the defaults, at most what its embedder reads."""
        with translated("retriever"):
            response = await self._stub.GetCollection(
                pb.GetCollectionRequest(name=collection_name(collection)), **_of(collection, QUICK_TIMEOUT_S)
            )
        return self._indexes(response.collection)

    def _indexes(self, found: pb.Collection) -> CollectionIndexes:
        return CollectionIndexes(
            self._target(found),
            self._target(found.building) if found.HasField("building") else None,
            self._target(found.previous) if found.HasField("previous") else None,
        )

    def _target(self, found: pb.Collection | pb.CollectionIndex) -> IndexTarget:
        window = found.max_embedder_tokens or self._default_chunk_tokens
        wanted = found.chunking.chunk_tokens or self._default_chunk_tokens
        splitter = SPLITTERS.get(found.chunking.splitter, STRUCTURE)
        size = ChunkSize(min(wanted, window), found.chunking.overlap_tokens, window, splitter, found.embedder)
        return IndexTarget(found.index_version, size)

    async def collections(self) -> list[str]:
        """All of the current call's tenant, page by page."""
        names: list[str] = []
        request = pb.ListCollectionsRequest(page_size=1000)
        with translated("retriever"):
            while True:
                page = await self._stub.ListCollections(request, **call_options(QUICK_TIMEOUT_S))
                names += [collection_id(collection.name) for collection in page.collections]
                if not page.next_page_token:
                    return names
                request.page_token = page.next_page_token

    async def stored(self, collection: str, index_version: str = "") -> AsyncIterator[StoredVersion]:
        """Every version that has chunks."""
        request = pb.ListStoredVersionsRequest(collection=collection_name(collection), index_version=index_version)
        with translated("retriever"):
            async for page in self._stub.ListStoredVersions(request, **_of(collection, STAGE_TIMEOUT_S)):
                for found in page.versions:
                    yield StoredVersion(found.document, found.version, found.live_chunks, found.staged_chunks)

    async def stage(self, collection: str, documents: Sequence[DocumentChunks], index_version: str = "") -> None:
        """Has the chunks embedded and stored, to be published later."""
        request = pb.UpsertChunksRequest(
            collection=collection_name(collection), staged=True, index_version=index_version,
            chunks=[chunk for document in documents for chunk in _messages(document)],
            reuse=[
                pb.ChunkRange(document=document.document, **vars(document.reuse))
                for document in documents
                if document.reuse
            ],
        )  # fmt: skip
        with _replaced(), translated("retriever"):
            await self._stub.UpsertChunks(request, **_of(collection, STAGE_TIMEOUT_S))

    async def publish(self, collection: str, versions: Sequence[tuple[str, str]], index_version: str = "") -> None:
        """Makes versions live, each at once for a searcher."""
        for at in range(0, len(versions), MAX_DOCUMENTS):
            some = [
                pb.DocumentVersion(document=name, version=version)
                for name, version in versions[at : at + MAX_DOCUMENTS]
            ]
            request = pb.PublishDocumentsRequest(
                collection=collection_name(collection), documents=some, index_version=index_version
            )
            with _replaced(), translated("retriever"):
                await self._stub.PublishDocuments(request, **_of(collection, STAGE_TIMEOUT_S))

    async def describe(self, collection: str, descriptions: Sequence[Description]) -> None:
        """Replaces the metadata of chunks; nothing is embedded."""
        documents = [
            pb.DocumentMetadata(document=each.document, version=each.version, metadata=to_struct(each.metadata))
            for each in descriptions
        ]
        for at in range(0, len(documents), MAX_DOCUMENTS):
            some = documents[at : at + MAX_DOCUMENTS]
            request = pb.SetDocumentMetadataRequest(collection=collection_name(collection), documents=some)
            with translated("retriever"):
                await self._stub.SetDocumentMetadata(request, **_of(collection, QUICK_TIMEOUT_S))

    async def delete_documents(self, collection: str, documents: Sequence[str]) -> int:
        """Deletes documents' chunks, staged ones too."""
        deleted = 0
        for at in range(0, len(documents), MAX_DOCUMENTS):
            names = pb.DocumentNames(documents=documents[at : at + MAX_DOCUMENTS])
            request = pb.DeleteChunksRequest(collection=collection_name(collection), documents=names)
            with translated("retriever"):
                deleted += (await self._stub.DeleteChunks(request, **_of(collection, STAGE_TIMEOUT_S))).deleted
        return deleted

    async def delete_version(self, collection: str, document: str, version: str, index_version: str = "") -> None:
        """Deletes a version's chunks, as when its job is given up."""
        selected = pb.DocumentVersion(document=document, version=version)
        request = pb.DeleteChunksRequest(
            collection=collection_name(collection), version=selected, index_version=index_version
        )
        with translated("retriever"):
            await self._stub.DeleteChunks(request, **_of(collection, STAGE_TIMEOUT_S))

    async def begin_index(self, collection: str, new: NewIndex) -> CollectionIndexes:
        """Begins another index beside the live one."""
        splitters = {name: number for number, name in SPLITTERS.items()}
        request = pb.BuildIndexRequest(
            collection=collection_name(collection), embedder=new.embedder, previous=new.previous,
            chunking=pb.Chunking(
                chunk_tokens=new.chunk_tokens, overlap_tokens=new.overlap_tokens, splitter=splitters.get(new.splitter)
            ),
        )  # fmt: skip
        with translated("retriever"):
            response = await self._stub.BuildIndex(request, **_of(collection, PREPARE_TIMEOUT_S))
        return self._indexes(response.collection)

    async def swap_index(self, collection: str, index_version: str) -> None:
        """Makes the index that was built the live one."""
        request = pb.SwapIndexRequest(collection=collection_name(collection), index_version=index_version)
        with translated("retriever"):
            await self._stub.SwapIndex(request, **_of(collection, STAGE_TIMEOUT_S))

    async def drop_index(self, collection: str, index_version: str, *, keep: bool = False) -> None:
        """Drops an index that is not live, or keeps it as the previous one."""
        request = pb.DropIndexRequest(collection=collection_name(collection), index_version=index_version, keep=keep)
        with translated("retriever"):
            await self._stub.DropIndex(request, **_of(collection, STAGE_TIMEOUT_S))


def _of(collection: str, timeout_s: float) -> CallOptions:
    """For a call about a collection: it is its tenant's, whoever makes it, as most are made by jobs."""
    return call_options(timeout_s, tenant_of(collection))


@contextmanager
def _replaced() -> Iterator[None]:
    """The retriever refuses what was cut for an index that is not in use any more."""
    try:
        yield
    except FailedPrecondition as error:
        if error.field != INDEX_VERSION:
            raise
        raise IndexReplaced(error.message) from error


def _messages(document: DocumentChunks) -> list[pb.Chunk]:
    metadata = to_struct(document.metadata)
    return [
        pb.Chunk(
            id=chunk.id, document=document.document, version=document.version, index=chunk.index, text=chunk.text,
            span=pb.Span(start=chunk.start, end=chunk.end), page=chunk.page, headings=chunk.headings,
            display_name=document.display_name, metadata=metadata, same_as=chunk.same_as,
            place=chunk_place(chunk.place, chunk.table, chunk.table_header),
        )
        for chunk in document.chunks
    ]  # fmt: skip
