"""The servicer: checks, converts, calls the domain, converts back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from mesh import paging
from mesh.access import tenants
from mesh.cache_messages import to_use
from mesh.errors import InvalidInput
from mesh.names import collection_id
from murphey.retriever.v1 import moving_pb2, stored_chunks_pb2
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceServicer
from retriever import collection_messages, messages, move_messages, rerank_messages, stored_messages
from retriever.bounds import check_count, check_texts
from retriever.building import Building
from retriever.catalog import CollectionRecord
from retriever.chunks import DocumentVersion
from retriever.collections import Collections
from retriever.embedding import Purpose
from retriever.indexing import Indexer
from retriever.kept_searches import KeptSearches
from retriever.moving.mover import Mover
from retriever.named_embedders import NamedEmbedders
from retriever.reranking import Rerankers
from retriever.search import Question, Searcher
from retriever.stores.base import Counts
from retriever.stores.placed import PlacedStore

NAME = "murphey.retriever.v1.RetrieverService"
MAX_CHUNKS, MAX_TEXTS, MAX_DOCUMENTS = 2_048, 2_048, 1_000
_PURPOSES = {
    pb.EMBED_PURPOSE_UNSPECIFIED: Purpose.DOCUMENT,
    pb.EMBED_PURPOSE_DOCUMENT: Purpose.DOCUMENT,
    pb.EMBED_PURPOSE_QUERY: Purpose.QUERY,
}
Context = grpc.aio.ServicerContext


@dataclass(frozen=True)
class Stored:
    """The store itself, and what moves collections in it."""

    store: PlacedStore
    mover: Mover


class RetrieverServicer(RetrieverServiceServicer):
    """murphey.retriever.v1.RetrieverService."""

    def __init__(
        self,
        collections: Collections,
        indexer: Indexer,
        searcher: Searcher,
        building: Building,
        embedders: NamedEmbedders,
        kept: KeptSearches,
        rerankers: Rerankers,
        stored: Stored,
    ) -> None:
        self._collections, self._indexer, self._searcher, self._embedders = collections, indexer, searcher, embedders
        self._building, self._kept, self._rerankers = building, kept, rerankers
        self._store, self._mover, self._default_store = stored.store, stored.mover, stored.store.default

    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:
        use = to_use(request.cache, "cache")
        record, _ = await self._collections.usable(collection_id(request.collection))
        question = replace(messages.to_question(request, record.dimensions), use=use)
        return await self._kept.search(request, record, use, lambda: self._search(question))

    async def _search(self, question: Question) -> pb.SearchResponse:
        found = await self._searcher.search(question)
        return pb.SearchResponse(
            passages=[messages.passage_message(passage) for passage in found.passages],
            index_version=found.index_version,
            embed_time=_duration(found.embed_s),
            store_time=_duration(found.store_s),
            rerank_time=_duration(found.rerank_s) if found.reranker else None,
            reranker=found.reranker,
        )

    async def Rerank(self, request: pb.RerankRequest, context: Context) -> pb.RerankResponse:
        question, texts = rerank_messages.to_texts(request)
        judged = await self._rerankers.judge(question, texts, request.reranker)
        return pb.RerankResponse(
            ranked=rerank_messages.ranked_messages(judged.scores, request.limit),
            reranker=judged.reranker,
            rerank_time=_duration(judged.seconds),
        )

    async def UpsertChunks(self, request: pb.UpsertChunksRequest, context: Context) -> pb.UpsertChunksResponse:
        collection = collection_id(request.collection)
        check_count("chunks", len(request.chunks), MAX_CHUNKS)
        index = await self._collections.index(collection, request.index_version)
        chunks, vectors, twins = await asyncio.to_thread(
            messages.to_chunks, request.chunks, collection, index.dimensions
        )
        done = await self._indexer.upsert(
            collection, chunks, vectors, staged=request.staged, twins=twins, index_version=request.index_version,
            reuse=messages.to_windows(request.reuse, collection),
        )  # fmt: skip
        return pb.UpsertChunksResponse(stored=done.stored, embedded=done.embedded, index_version=done.index_version)

    async def PublishDocuments(
        self, request: pb.PublishDocumentsRequest, context: Context
    ) -> pb.PublishDocumentsResponse:
        collection = collection_id(request.collection)
        check_count("documents", len(request.documents), MAX_DOCUMENTS)
        versions = [
            messages.to_version(message, collection, f"documents[{row}]")
            for row, message in enumerate(request.documents)
        ]
        if len({version.document for version in versions}) < len(versions):
            raise InvalidInput("A document is named twice: only one of its versions can be live.", field="documents")
        removed = await self._indexer.publish(collection, versions, request.index_version)
        return pb.PublishDocumentsResponse(removed=removed)

    async def SetDocumentMetadata(
        self, request: pb.SetDocumentMetadataRequest, context: Context
    ) -> pb.SetDocumentMetadataResponse:
        collection = collection_id(request.collection)
        check_count("documents", len(request.documents), MAX_DOCUMENTS)
        descriptions = messages.to_descriptions(request.documents, collection)
        return pb.SetDocumentMetadataResponse(updated_chunks=await self._indexer.describe(collection, descriptions))

    async def DeleteChunks(self, request: pb.DeleteChunksRequest, context: Context) -> pb.DeleteChunksResponse:
        collection = collection_id(request.collection)
        selection = messages.to_selection(request, collection)
        deleted = await self._indexer.delete(collection, selection, request.index_version)
        return pb.DeleteChunksResponse(deleted=deleted)

    async def ListStoredVersions(
        self, request: pb.ListStoredVersionsRequest, context: Context
    ) -> AsyncIterator[pb.ListStoredVersionsResponse]:
        stored = await self._indexer.stored(collection_id(request.collection), request.index_version)
        rows = [_stored_message(version, counts) for version, counts in stored.items()]
        for at in range(0, len(rows), MAX_DOCUMENTS):
            yield pb.ListStoredVersionsResponse(versions=rows[at : at + MAX_DOCUMENTS])

    async def GetCorpusVersion(
        self, request: pb.GetCorpusVersionRequest, context: Context
    ) -> pb.GetCorpusVersionResponse:
        record = await self._collections.get(collection_id(request.collection))
        version = await self._kept.versions.of(record.index)
        return pb.GetCorpusVersionResponse(version=version.contents, removals=version.removals)

    async def BuildIndex(self, request: pb.BuildIndexRequest, context: Context) -> pb.BuildIndexResponse:
        wanted = collection_messages.to_new_index(request)
        record = await self._building.begin(collection_id(request.collection), wanted)
        return pb.BuildIndexResponse(collection=await self._shown(record))

    async def SwapIndex(self, request: pb.SwapIndexRequest, context: Context) -> pb.SwapIndexResponse:
        record = await self._building.swap(collection_id(request.collection), request.index_version)
        return pb.SwapIndexResponse(collection=await self._shown(record))

    async def DropIndex(self, request: pb.DropIndexRequest, context: Context) -> pb.DropIndexResponse:
        collection = collection_id(request.collection)
        record = await self._building.drop(collection, request.index_version, keep=request.keep)
        return pb.DropIndexResponse(collection=await self._shown(record))

    async def ReadChunks(
        self, request: stored_chunks_pb2.ReadChunksRequest, context: Context
    ) -> stored_chunks_pb2.ReadChunksResponse:
        if len(request.documents) > MAX_DOCUMENTS:
            raise InvalidInput(f"At most {MAX_DOCUMENTS} documents at a time.", field="documents")
        await self._collections.check_index(tenants.current(), request.index)
        page = await self._store.page(
            request.index, staged=request.staged, after=request.after, documents=list(request.documents)
        )
        message = await asyncio.to_thread(stored_messages.to_message, page.chunks)
        return stored_chunks_pb2.ReadChunksResponse(page=message, after=page.after)

    async def MoveCollection(
        self, request: moving_pb2.MoveCollectionRequest, context: Context
    ) -> AsyncIterator[moving_pb2.MoveCollectionResponse]:
        wanted = move_messages.to_move(request)
        moving = self._mover.move(
            wanted.collection, wanted.store, questions_asked=wanted.questions, least_agreement=wanted.agreement
        )
        async with aclosing(moving):  # a caller that leaves ends it here
            async for progress in moving:
                yield move_messages.progress_message(progress)

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        check_count("texts", len(request.texts), MAX_TEXTS)
        check_texts(request.texts)
        if request.purpose not in _PURPOSES:
            raise InvalidInput(f"There is no purpose {request.purpose}.", field="purpose")
        queue = await self._embedders.queue(request.embedder)
        purpose = _PURPOSES[request.purpose]
        vectors = await queue.embed(list(request.texts), purpose)
        queue.stored(request.texts if purpose is Purpose.DOCUMENT else ())
        embedder = f"{queue.embedder.name}@{queue.embedder.version}"
        return pb.EmbedResponse(vectors=[pb.Vector(values=row) for row in vectors.tolist()], embedder=embedder)

    async def CreateCollection(
        self, request: pb.CreateCollectionRequest, context: Context
    ) -> pb.CreateCollectionResponse:
        record = await self._collections.create(collection_messages.to_new_collection(request.collection))
        return pb.CreateCollectionResponse(collection=await self._shown(record))

    async def GetCollection(self, request: pb.GetCollectionRequest, context: Context) -> pb.GetCollectionResponse:
        record = await self._collections.get(collection_id(request.name, "name"))
        return pb.GetCollectionResponse(collection=await self._shown(record))

    async def ListCollections(self, request: pb.ListCollectionsRequest, context: Context) -> pb.ListCollectionsResponse:
        size = paging.page_size(request.page_size)
        tenant = tenants.current()
        after = tenants.scoped(paging.decode_token(request.page_token), tenant)
        records = await self._collections.list(tenant, after, size + 1)
        page, more = records[:size], len(records) > size
        return pb.ListCollectionsResponse(
            collections=await asyncio.gather(*map(self._shown, page)),
            next_page_token=paging.encode_token(tenants.public(page[-1].id)) if more else "",
        )

    async def DeleteCollection(
        self, request: pb.DeleteCollectionRequest, context: Context
    ) -> pb.DeleteCollectionResponse:
        if not request.name:
            raise InvalidInput("The collection's name is missing: write collections/ID.", field="name")
        await self._collections.delete(collection_id(request.name, "name"), force=request.force)
        return pb.DeleteCollectionResponse()

    async def _shown(self, record: CollectionRecord) -> pb.Collection:
        counts = [await self._collections.counts(index) for index in record.indexes]
        default_tokens = self._embedders.default.max_tokens
        return collection_messages.collection_message(record, counts, default_tokens, self._default_store)


def _stored_message(version: DocumentVersion, counts: Counts) -> pb.StoredVersion:
    return pb.StoredVersion(
        document=version.document, version=version.version, live_chunks=counts.live, staged_chunks=counts.staged
    )


def _duration(seconds: float) -> Duration:
    return Duration(nanos=int(seconds * 1e9) % 10**9, seconds=int(seconds))
