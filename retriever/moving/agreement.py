"""Whether two stores answer the same: questions made of the chunks that they hold, so that nothing is embedded."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from retriever.sparse import SparseVector
from retriever.stores.base import Hit, IndexedChunk, Mode, Store, StoreQuery

LIMIT = 10
TOLERANCE = 1e-3
"""Of a cosine: stores round vectors otherwise, and may scale what they quantize."""
FUSED_TOLERANCE = 0.02
"""Of a fused score, 0 to 1: BM25 weighs a word by how many chunks have it, and counts deleted ones until an index is built."""
WORDS = 8
_FROM_PAGE = 10


@dataclass(frozen=True, slots=True)
class Agreement:
    """So many questions were asked, and to so many both gave the same first ten."""

    questions: int
    same: int

    @property
    def share(self) -> float:
        """0 to 1; 1 where nothing could be asked."""
        return self.same / self.questions if self.questions else 1.0


async def questions(store: Store, index: str, count: int, random: Random) -> list[StoreQuery]:
    """Questions between two chunks each, by meaning and by the words of one of them. Fewer where there are few chunks."""
    asked: list[StoreQuery] = []
    for _ in range(0, count, _FROM_PAGE):
        start = str(uuid.UUID(int=random.getrandbits(128)))
        page = await store.page(index, staged=False, after=start)
        if len(page.chunks) < 2:
            page = await store.page(index, staged=False)
        if not page.chunks:
            break
        pairs = [random.choices(page.chunks, k=2) for _ in range(_FROM_PAGE)]
        asked += [_between(first, second) for first, second in pairs]
    return asked[:count]


async def differing(index: str, one: Store, other: Store, asked: Sequence[StoreQuery]) -> list[StoreQuery]:
    """The questions to which the two do not give the same."""
    return [query for query in asked if not same(await one.search(index, query), await other.search(index, query))]


def same(left: Sequence[Hit], right: Sequence[Hit]) -> bool:
    """The same chunks with the same cosines, in any order of equal ones. What only one has must be as good as the last of the
    other: where several are equal at the end, either may have any of them."""
    if len(left) != len(right):
        return False
    ours, theirs = ({hit.chunk.id: hit for hit in hits} for hits in (left, right))
    if any(not _close(ours[key], theirs[key]) for key in ours.keys() & theirs.keys()):
        return False
    only_ours = [ours[key].score for key in ours.keys() - theirs.keys()]
    only_theirs = [theirs[key].score for key in theirs.keys() - ours.keys()]
    tied = [abs(score - right[-1].score) <= FUSED_TOLERANCE for score in only_ours]
    return all(tied + [abs(score - left[-1].score) <= FUSED_TOLERANCE for score in only_theirs])


def _close(one: Hit, other: Hit) -> bool:
    return abs((one.dense_score or 0.0) - (other.dense_score or 0.0)) <= TOLERANCE


def _between(first: IndexedChunk, second: IndexedChunk) -> StoreQuery:
    dense = np.asarray(first.dense, np.float32) + np.asarray(second.dense, np.float32)
    dense /= np.linalg.norm(dense) or 1.0
    heaviest = sorted(zip(first.sparse.values, first.sparse.indices, strict=True), reverse=True)[:WORDS]
    words = SparseVector([index for _, index in heaviest], [1.0] * len(heaviest))
    return StoreQuery(Mode.HYBRID, LIMIT, dense.tolist(), words)
