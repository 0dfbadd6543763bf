"""The retriever over gRPC."""

from collections.abc import Sequence

import grpc.aio

from mesh.access.tenants import public, tenant_of
from mesh.cache_messages import from_use
from mesh.caching import Use
from mesh.deadline import call_options
from mesh.errors import MurpheyError, translated
from mesh.place_messages import to_place
from murphey.retriever.v1 import filter_pb2, retriever_pb2, retriever_pb2_grpc
from orchestrator.clients.faults import named_in_question
from orchestrator.ports import CorpusVersion
from orchestrator.sources import Chunk, Passage, SearchResult, Span

SERVICE = "murphey.retriever.v1.RetrieverService"
IDEMPOTENT = ["Search", "Rerank", "Embed", "GetCorpusVersion"]


class RetrieverClient:
    """Implements `ports.Retriever`. `timeout_s` bounds a call whose own deadline is later; `reranker` names what orders found
    passages anew, empty for nothing."""

    def __init__(self, channel: grpc.aio.Channel, timeout_s: float, reranker: str = "") -> None:
        self._stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        self._timeout_s = timeout_s
        self._reranking = retriever_pb2.Reranking(reranker=reranker) if reranker else None

    async def search(
        self, text: str, *, collection: str, search_filter: bytes, limit: int, neighbors: int, use: Use
    ) -> SearchResult:
        """Hybrid search."""
        request = retriever_pb2.SearchRequest(
            collection=public(collection),
            text=text,
            filter=filter_pb2.Filter.FromString(search_filter),
            limit=limit,
            neighbors=neighbors,
            reranking=self._reranking,
            cache=from_use(use),
        )
        try:
            with translated("retriever"):
                response = await self._stub.Search(request, **call_options(self._timeout_s, tenant_of(collection)))
        except MurpheyError as error:
            raise named_in_question(error) from error
        passages = tuple(_passage(found) for found in response.passages)
        return SearchResult(passages, response.index_version, response.corpus_version)

    async def corpus(self, collection: str) -> CorpusVersion:
        """In one call that reads no chunk."""
        request = retriever_pb2.GetCorpusVersionRequest(collection=public(collection))
        try:
            with translated("retriever"):
                options = call_options(self._timeout_s, tenant_of(collection))
                response = await self._stub.GetCorpusVersion(request, **options)
        except MurpheyError as error:
            raise named_in_question(error) from error
        return CorpusVersion(response.version, response.removals)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Embeds texts as documents: two sentences are compared with each other, not a question with its answer."""
        request = retriever_pb2.EmbedRequest(texts=texts, purpose=retriever_pb2.EMBED_PURPOSE_DOCUMENT)
        with translated("retriever"):
            response = await self._stub.Embed(request, **call_options(self._timeout_s))
        return [list(vector.values) for vector in response.vectors]


def _passage(found: retriever_pb2.Passage) -> Passage:
    return Passage(
        chunk=_chunk(found.chunk),
        score=found.score,
        dense_score=found.dense_score if found.HasField("dense_score") else None,
        before=tuple(_chunk(chunk) for chunk in found.before),
        after=tuple(_chunk(chunk) for chunk in found.after),
    )


def _chunk(chunk: retriever_pb2.Chunk) -> Chunk:
    return Chunk(
        id=chunk.id,
        document=chunk.document,
        version=chunk.version,
        index=chunk.index,
        text=chunk.text,
        span=Span(chunk.span.start, chunk.span.end),
        page=chunk.page,
        headings=tuple(chunk.headings),
        display_name=chunk.display_name,
        place=to_place(chunk.place),
    )
