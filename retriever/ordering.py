"""Orders what a search has found once more: for diversity, and by a reranker."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from retriever.chunks import text_to_index
from retriever.diffusion import Vectors, diffused, scaled
from retriever.diversity import diversified
from retriever.reranking import Blend, Judged, Rerankers
from retriever.stores import fusion
from retriever.stores.base import Hit, Store

DEFAULT_PASSAGES = 30
_LEAST_POOL = 50
"""Passages from which different ones are chosen, at least; twice the limit where that is more."""
_MOST_POOL = 1_000
_SPREAD_FROM_WORDS, _SPREAD_WORDS = 5, 8
"""A question of fewer words wants one passage as a rule, and nothing is diffused; all of it from the second number on."""


@dataclass(frozen=True, slots=True)
class Reranking:
    """How many of the best passages a reranker orders anew; an empty name is the default one."""

    reranker: str = ""
    passages: int = DEFAULT_PASSAGES


@dataclass(frozen=True, slots=True)
class Wish:
    """How a question wants its hits ordered."""

    limit: int
    diversity: float = 0.0
    reranking: Reranking | None = None

    @property
    def candidates(self) -> int:
        """Hits to ask the store for."""
        pool = max(_LEAST_POOL, min(2 * self.limit, _MOST_POOL)) if self.diversity else 0
        return max(self.limit, pool, self.reranking.passages if self.reranking else 0)


@dataclass(frozen=True, slots=True)
class Ordered:
    """Hits in their new order, and what the reranker said of those that it read, by chunk id."""

    hits: list[Hit]
    rerank_scores: dict[str, float] = field(default_factory=dict)
    judged: Judged | None = None


class Ordering:
    """Reads vectors back from the store, and asks rerankers."""

    def __init__(self, store: Store, rerankers: Rerankers) -> None:
        self._store, self._rerankers = store, rerankers

    def check(self, wish: Wish) -> None:
        """InvalidInput for a reranker that there is not; before any work."""
        if wish.reranking:
            self._rerankers.named(wish.reranking.reranker, "reranking.reranker")

    async def order(self, index: str, question: str, words: int, hits: Sequence[Hit], wish: Wish) -> Ordered:
        """The best `limit` of them. `words` are the different ones of the question."""
        ordered = Ordered(list(hits))
        if wish.diversity and hits:
            keep = replace(wish, diversity=0.0).candidates
            ordered = Ordered(await self._different(index, hits, wish.diversity, keep))
        if wish.reranking and ordered.hits:
            ordered = await self._reranked(index, question, words, ordered.hits, wish.reranking)
        return replace(ordered, hits=ordered.hits[: wish.limit])

    async def _different(self, index: str, hits: Sequence[Hit], diversity: float, count: int) -> list[Hit]:
        there, vectors = await self._with_vectors(index, hits)
        taken = diversified([hit.score for hit in there], vectors, diversity, count) if there else []
        return [there[row] for row in taken]

    async def _reranked(
        self, index: str, question: str, words: int, hits: Sequence[Hit], reranking: Reranking
    ) -> Ordered:
        first, rest = list(hits[: reranking.passages]), list(hits[reranking.passages :])
        texts = [text_to_index(hit.chunk) for hit in first]
        judged = await self._rerankers.judge(question, texts, reranking.reranker, "reranking.reranker")
        scores = dict(zip([hit.chunk.id for hit in first], judged.scores, strict=True))
        share = judged.blend.spread * fusion.between(words, _SPREAD_FROM_WORDS, _SPREAD_WORDS)
        if share:
            first, vectors = await self._with_vectors(index, first)
        else:
            vectors = np.empty((0, 0), np.float32)
        best_first = blended(first, [scores[hit.chunk.id] for hit in first], judged.blend, share, vectors)
        return Ordered([*best_first, *rest], scores, judged)

    async def _with_vectors(self, index: str, hits: Sequence[Hit]) -> tuple[list[Hit], Vectors]:
        """The hits that are still there, with their vectors, (n, d)."""
        found = await self._store.vectors(index, [hit.chunk.id for hit in hits])
        there = [hit for hit in hits if hit.chunk.id in found]
        return there, np.asarray([found[hit.chunk.id][1] for hit in there], np.float32)


def blended(hits: Sequence[Hit], scores: Sequence[float], blend: Blend, share: float, vectors: Vectors) -> list[Hit]:
    """The hits by both scores, the best first; equal ones stay in their order. `vectors` are needed for a share above 0."""
    if not hits:
        return []
    total = scaled(scores) + blend.search_weight * scaled([hit.score for hit in hits])
    if share:
        total = diffused(scaled(total), vectors, share)
    return [hits[row] for row in np.argsort(-total, kind="stable")]
