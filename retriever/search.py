"""Finds passages: embeds the question, asks the store, has the hits ordered, and brings each one's neighbours along."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mesh import metrics
from mesh.caching import Use
from retriever import filters
from retriever.batching import EmbeddingQueue
from retriever.catalog import CollectionRecord
from retriever.chunks import Chunk, DocumentVersion
from retriever.collections import Collections
from retriever.filters import NO_FILTER, Filter
from retriever.languages import of_question
from retriever.ordering import Ordering, Reranking, Wish
from retriever.query_vectors import QueryVectors
from retriever.sparse import SparseVector
from retriever.stores.base import Hit, Mode, Store, StoreQuery, Window

DEFAULT_LIMIT = 10

_STAGES = metrics.histogram("search_stage_seconds", "Time of a search's stages: embed, store, rerank.", ("stage",))
_SCORES = metrics.histogram(
    "search_top_score", "Cosine of the best passage with its question.", ("mode",), metrics.SCORE_BUCKETS
)
_EMPTY = metrics.counter("search_empty", "Searches that found nothing.", ("mode",))


@dataclass(frozen=True, slots=True)
class Question:
    """What to look for: a text, or a vector for dense search."""

    collection: str
    text: str = ""
    vector: Sequence[float] | None = None
    mode: Mode = Mode.HYBRID
    condition: Filter = NO_FILTER
    limit: int = DEFAULT_LIMIT
    minimum_score: float | None = None
    neighbors: int = 0
    reranking: Reranking | None = None
    diversity: float = 0.0
    use: Use = field(default_factory=Use)
    """How caches take part."""

    @property
    def wish(self) -> Wish:
        """How the hits are to be ordered."""
        return Wish(self.limit, self.diversity, self.reranking)


@dataclass(frozen=True, slots=True)
class Passage:
    """A hit with the chunks around it, in the document's order, and the reranker's score where it read it."""

    hit: Hit
    rerank_score: float | None = None
    before: tuple[Chunk, ...] = ()
    after: tuple[Chunk, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """The passages, the best first, and what it took."""

    passages: list[Passage]
    index_version: str
    embed_s: float
    store_s: float
    rerank_s: float = 0.0
    reranker: str = ""
    """Its name and version; empty where there was none."""


class Searcher:
    """The retriever's reading side."""

    def __init__(self, collections: Collections, vectors: QueryVectors, store: Store, ordering: Ordering) -> None:
        self._collections, self._vectors, self._store, self._ordering = collections, vectors, store, ordering

    async def search(self, question: Question) -> Found:
        """What fits best; empty when nothing fits."""
        record, embedding = await self._collections.usable(question.collection)
        filters.check(question.condition, record.fields)
        self._ordering.check(question.wish)
        started = time.perf_counter()
        query = await self._in_vectors(question, record, embedding)
        embedded = time.perf_counter()
        hits = await self._store.search(record.index, query) if query else []
        if question.minimum_score is not None:
            hits = [hit for hit in hits if hit.score >= question.minimum_score]
        words = query.sparse.words if query and query.sparse else 0
        ordered = await self._ordering.order(record.index, question.text, words, hits, question.wish)
        passages = await self._with_neighbors(record.index, ordered.hits, question.neighbors)
        if ordered.judged:
            passages = [replace(each, rerank_score=ordered.rerank_scores.get(each.hit.chunk.id)) for each in passages]
        rerank_s, reranker = (ordered.judged.seconds, ordered.judged.reranker) if ordered.judged else (0.0, "")
        store_s = time.perf_counter() - embedded - rerank_s
        found = Found(passages, record.index_version, embedded - started, store_s, rerank_s, reranker)
        _measure(found, question.mode)
        return found

    async def _in_vectors(
        self, question: Question, record: CollectionRecord, embedding: EmbeddingQueue
    ) -> StoreQuery | None:
        """None when the question has no words to look for."""
        dense, sparse = question.vector, None
        if question.mode is not Mode.DENSE:
            sparse = await _words(question.text, record)
            if sparse is None and question.mode is Mode.SPARSE:
                return None
        if question.mode is not Mode.SPARSE and dense is None:
            dense = await self._vectors.of_query(embedding, question.text, question.use)  # pyright: ignore[reportAssignmentType] - a row of numbers
        return StoreQuery(question.mode, question.wish.candidates, dense, sparse, question.condition)  # pyright: ignore[reportArgumentType] - a row of numbers

    async def _with_neighbors(self, index: str, hits: Sequence[Hit], reach: int) -> list[Passage]:
        if not reach:
            return [Passage(hit) for hit in hits]
        windows = [_window(hit.chunk, reach) for hit in hits]
        around = await self._store.neighbors(index, windows)
        return [_passage(hit, around[window]) for hit, window in zip(hits, windows, strict=True)]


def _measure(found: Found, mode: Mode) -> None:
    _STAGES.labels("embed").observe(found.embed_s)
    _STAGES.labels("store").observe(found.store_s)
    if found.reranker:
        _STAGES.labels("rerank").observe(found.rerank_s)
    if not found.passages:
        _EMPTY.labels(mode.value).inc()
    scores = [passage.hit.dense_score for passage in found.passages if passage.hit.dense_score is not None]
    if scores:
        _SCORES.labels(mode.value).observe(max(scores))


async def _words(text: str, record: CollectionRecord) -> SparseVector | None:
    languages = record.word_languages
    if len(languages) > 1:  # which one it is takes a while to tell, the first time a quarter of a second
        words = await asyncio.to_thread(of_question, text, languages)
    else:
        words = of_question(text, languages)
    return words if words.indices else None


def _window(chunk: Chunk, reach: int) -> Window:
    version = DocumentVersion(chunk.document, chunk.version)
    return Window(version, max(0, chunk.index - reach), chunk.index + reach)


def _passage(hit: Hit, around: Sequence[Chunk]) -> Passage:
    return Passage(
        hit,
        before=tuple(chunk for chunk in around if chunk.index < hit.chunk.index),
        after=tuple(chunk for chunk in around if chunk.index > hit.chunk.index),
    )
