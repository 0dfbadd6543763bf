"""From what Qdrant returns to hits and neighbours, the same in both stores."""

from collections.abc import Mapping, Sequence

import numpy as np

from retriever.chunks import Chunk, DocumentVersion
from retriever.stores.base import Counts, Mode, StoreQuery, Window


def dense_score(query: StoreQuery, score: float, vector: Sequence[float] | None) -> float | None:
    """The cosine of a hit with the query; `vector` is the stored one, which has length 1. None in sparse search."""
    if query.mode is Mode.DENSE:
        return score
    if vector is None or query.dense is None:
        return None
    return float(np.dot(np.asarray(vector, np.float32), np.asarray(query.dense, np.float32)))


def merged(live: Mapping[DocumentVersion, int], staged: Mapping[DocumentVersion, int]) -> dict[DocumentVersion, Counts]:
    """Both counts of every version that has either."""
    return {version: Counts(live.get(version, 0), staged.get(version, 0)) for version in {**live, **staged}}


def arrange(windows: Sequence[Window], chunks: Sequence[Chunk]) -> dict[Window, list[Chunk]]:
    """Each window's chunks, by their index."""
    by_version: dict[DocumentVersion, list[Chunk]] = {}
    for chunk in sorted(chunks, key=lambda chunk: chunk.index):
        by_version.setdefault(DocumentVersion(chunk.document, chunk.version), []).append(chunk)
    return {
        window: [c for c in by_version.get(window.version, []) if window.first <= c.index <= window.last]
        for window in windows
    }
