"""Searches as a user's: one question to the retriever."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc.aio

from mesh.errors import translated
from murphey.retriever.v1 import filter_pb2
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1.cache_pb2 import CacheControl
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub
from orchestrator.sources import Chunk, Passage, Span
from orchestrator.splitting import Split, merged, second_search

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Found:
    """Passages, the best first, the index they came from, and the seconds that it took as seen from here."""

    passages: tuple[Passage, ...]
    index: str
    seconds: float


class Finds(Protocol):
    """Finds passages."""

    async def search(self, text: str, documents: Sequence[str] = ()) -> Found:
        """What fits a text best, among the documents of these display names where any are given."""
        ...


class Searches:
    """Searches one collection. `mode` is `hybrid`, `dense` or `sparse`; a reranker of None orders nothing anew, an empty one
    is the retriever's default."""

    def __init__(
        self, channel: grpc.aio.Channel, collection: str, mode: str, limit: int, reranker: str | None = None
    ) -> None:
        self._stub = RetrieverServiceStub(channel)
        self._collection, self._limit = collection, limit
        self._mode = f"SEARCH_MODE_{mode.upper()}"
        self._reranking = None if reranker is None else pb.Reranking(reranker=reranker)

    async def search(self, text: str, documents: Sequence[str] = ()) -> Found:
        """What fits a text best, among the documents of these display names where any are given."""
        request = pb.SearchRequest(
            collection=f"collections/{self._collection}", text=text, mode=self._mode, limit=self._limit,
            filter=only_documents(documents), reranking=self._reranking,
            cache=CacheControl(no_cache=True, no_store=True),
        )  # fmt: skip
        started_s = time.perf_counter()
        with translated("retriever"):
            response = await self._stub.Search(request, timeout=TIMEOUT_S)
        seconds = time.perf_counter() - started_s
        return Found(tuple(_passage(found) for found in response.passages), response.index_version, seconds)


class SplittingSearches:
    """Searches as the orchestrator does where a question may need two facts. Both searches' seconds count."""

    def __init__(self, searches: Finds, split: Split, limit: int) -> None:
        self._searches, self._split, self._limit = searches, split, limit

    async def search(self, text: str, documents: Sequence[str] = ()) -> Found:
        """What fits a text best, in one step or two."""
        first = await self._searches.search(text, documents)
        further = second_search(text, first.passages[0]) if first.passages and self._split.applies(text) else ""
        if not further:
            return first
        second = await self._searches.search(further, documents)
        passages = merged(first.passages, second.passages, self._limit)
        return Found(passages, first.index, first.seconds + second.seconds)


def only_documents(names: Sequence[str]) -> filter_pb2.Filter:
    """A filter that lets only documents of these display names through; all of them where none are given."""
    if not names:
        return filter_pb2.Filter()
    condition = filter_pb2.FieldCondition(field="display_name")
    condition.any_of.extend(names)
    return filter_pb2.Filter(must=[filter_pb2.Condition(field=condition)])


def _passage(found: pb.Passage) -> Passage:
    chunk = found.chunk
    return Passage(
        Chunk(
            id=chunk.id, document=chunk.document, version=chunk.version, index=chunk.index, text=chunk.text,
            span=Span(chunk.span.start, chunk.span.end), page=chunk.page, headings=tuple(chunk.headings),
            display_name=chunk.display_name,
        ),
        score=found.score,
        dense_score=found.dense_score if found.HasField("dense_score") else None,
    )  # fmt: skip
