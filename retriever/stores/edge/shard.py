"""A shard of Qdrant's embedded engine: opens it, updates it, asks it. Blocks; one thread at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import qdrant_edge as q

from retriever.chunks import DocumentVersion
from retriever.sparse import SparseVector
from retriever.stores import conditions, fusion
from retriever.stores.base import Mode, OfDocuments, StoreQuery, Window
from retriever.stores.conditions import Dialect
from retriever.stores.hits import dense_score
from retriever.stores.payload import DENSE, FIXED_INDEXES, SPARSE

Payload = dict[str, Any]
FoundPoint = tuple[str, float, float | None, Payload]
"""Id, score, cosine with the query, payload."""
Scores = dict[int, float]
"""Of points, by the number that their id is: a third of the time that its text takes, and there are hundreds to a search."""
Ranked = list[tuple[int, float]]
"""Such numbers with their scores, the best first."""

EDGE = Dialect(
    filter=lambda must=None, should=None, must_not=None: q.Filter(
        must=must or None, should=should or None, must_not=must_not or None
    ),
    value=lambda path, value: q.FieldCondition(path, match=q.MatchValue(value)),
    any_of=lambda path, values: q.FieldCondition(path, match=q.MatchAny(values)),
    numbers=lambda path, **bounds: q.FieldCondition(path, range=q.RangeFloat(**bounds)),
    times=lambda path, **bounds: q.FieldCondition(path, range=q.RangeDateTime(**bounds)),
    is_empty=q.IsEmptyCondition,
    has_id=lambda ids: q.HasIdCondition(set(ids)),
)
_MAPPED = q.Memory.Cached
"""Read through the page cache. Built in memory, as is the default, they double the time that it takes to open a shard."""
INDEX_TYPES = {
    "keyword": q.KeywordIndexParams(memory=_MAPPED),
    "float": q.FloatIndexParams(memory=_MAPPED),
    "integer": q.IntegerIndexParams(memory=_MAPPED),
    "datetime": q.DatetimeIndexParams(memory=_MAPPED),
}
_SCROLL_POINTS = 1_000
_VERSIONS_POINTS = 2_000


class Shard:
    """An open shard."""

    def __init__(self, shard: q.EdgeShard) -> None:
        self._shard = shard

    @classmethod
    def create(cls, folder: Path, dimensions: int) -> "Shard":
        """A new one in a folder that is not there yet."""
        folder.mkdir(parents=True)
        config = q.EdgeConfig(
            vectors={DENSE: q.EdgeVectorParams(size=dimensions, distance=q.Distance.Cosine)},
            sparse_vectors={SPARSE: q.EdgeSparseVectorParams(modifier=q.Modifier.Idf, memory=_MAPPED)},
        )
        made = cls(q.EdgeShard.create(str(folder), config))
        for path, kind in FIXED_INDEXES.items():
            made.apply(q.UpdateOperation.create_field_index(path, INDEX_TYPES[kind]))
        made.flush()
        return made

    @classmethod
    def load(cls, folder: Path) -> "Shard":
        """One that is there; what its log holds is applied."""
        return cls(q.EdgeShard.load(str(folder)))

    def apply(self, operation: q.UpdateOperation) -> None:
        """Durable against the end of this process when it returns."""
        self._shard.update(operation)

    def search(self, queries: Sequence[StoreQuery], hidden: q.Filter | None = None) -> list[list[FoundPoint]]:
        """The answers to a batch, in order, as if what is hidden were not there."""
        plain = [query for query in queries if query.mode is not Mode.HYBRID]
        answers = dict(zip(map(id, plain), self._query([_request(query, hidden) for query in plain]), strict=True))
        hybrid = [query for query in queries if query.mode is Mode.HYBRID]
        fused = dict(zip(map(id, hybrid), self._fuse(hybrid, hidden), strict=True))
        return [
            self._filled(*fused[id(query)], query)
            if query.mode is Mode.HYBRID
            else [_found(point, query) for point in answers[id(query)]]
            for query in queries
        ]

    def _fuse(self, queries: Sequence[StoreQuery], hidden: q.Filter | None) -> list[tuple[Ranked, Scores]]:
        """Fused scores, the best first, and the cosines that are known; questions of many words are asked twice."""
        dense = self._scores([_part(query, query.dense, hidden) for query in queries])
        sparse = self._scores([_part(query, query.sparse, hidden) for query in queries])
        words = [query.sparse.words if query.sparse else 0 for query in queries]
        found = [fusion.fused(*parts) for parts in zip(dense, sparse, words, strict=True)]
        again = [row for row, hits in enumerate(found) if hits and fusion.feedback_weight(words[row])]
        moved = self._scores([self._moved_part(queries[row], found[row], words[row], hidden) for row in again])
        for row, scores in zip(again, moved, strict=True):
            found[row] = fusion.fused(scores, sparse[row], words[row])
        return [(hits[: query.limit], cosines) for hits, cosines, query in zip(found, dense, queries, strict=True)]

    def _moved_part(
        self, query: StoreQuery, hits: Ranked, words: int, hidden: q.Filter | None
    ) -> q.QueryRequest | None:
        ids: list[Any] = [_id(number) for number, _ in hits[: fusion.FEEDBACK_PASSAGES]]
        near = [_dense(record) for record in self._shard.retrieve(ids, with_payload=False, with_vector=[DENSE])]
        return _part(query, fusion.moved(_numbers(query.dense), near, fusion.feedback_weight(words)).tolist(), hidden)

    def _scores(self, requests: Sequence[q.QueryRequest | None]) -> list[Scores]:
        """Scores by number of each request; none for one that is not there."""
        answers: Iterator[list[Any]] = iter(self._query([request for request in requests if request is not None]))
        return [{} if request is None else {p.id.int: p.score for p in next(answers)} for request in requests]

    def _query(self, requests: list[q.QueryRequest]) -> list[list[q.ScoredPoint]]:
        return self._shard.query_batch(q.QueryBatchRequest(requests)) if requests else []

    def _filled(self, hits: Ranked, cosines: Scores, query: StoreQuery) -> list[FoundPoint]:
        """The hits with their payloads and their cosines with the question as it was asked."""
        far = [
            _id(number) for number, _ in hits if number not in cosines
        ]  # found by their words, or asked a second time
        vectors = {point_id: vector for point_id, _, vector in self.vectors(far)} if far else {}
        records: list[Any] = self._shard.retrieve([_id(number) for number, _ in hits], True, False)
        payloads = {record.id.int: record.payload or {} for record in records}
        found: list[FoundPoint] = []
        for number, score in hits:
            point_id = _id(number)
            cosine = cosines.get(number)
            if cosine is None:
                cosine = dense_score(query, score, vectors[point_id])
            found.append((point_id, score, cosine, payloads[number]))
        return found

    def windows(self, windows: Sequence[Window]) -> list[tuple[str, Payload]]:
        """The chunks in any of the windows."""
        condition, offset = conditions.in_windows(windows, EDGE), None
        found: list[tuple[str, Payload]] = []
        while True:
            request = q.ScrollRequest(offset=offset, limit=_SCROLL_POINTS, filter=condition, with_payload=True)
            records, offset = self._shard.scroll(request)
            found.extend((str(record.id), record.payload) for record in records)  # pyright: ignore
            if offset is None:
                return found

    def vectors(self, ids: Sequence[str]) -> list[tuple[str, Payload, list[float]]]:
        """The points with these ids, with their dense vectors."""
        records = self._shard.retrieve(list(ids), with_payload=True, with_vector=[DENSE])
        return [(str(record.id), record.payload or {}, _dense(record)) for record in records]

    def versions(self, after: str | None) -> tuple[list[DocumentVersion], str | None]:
        """Each point's version on a page, and the first point of the next page."""
        request = q.ScrollRequest(offset=after, limit=_VERSIONS_POINTS, with_payload=["document", "version"])
        records, offset = self._shard.scroll(request)
        payloads: list[Any] = [record.payload for record in records]
        found = [DocumentVersion(payload["document"], payload["version"]) for payload in payloads]
        return found, str(offset) if offset is not None else None

    def page(
        self, after: str, documents: Sequence[str], size: int
    ) -> tuple[list[tuple[str, Payload, bytes, list[int], list[float]]], str]:
        """Points with all their vectors (`operations.Row`), and the first of the next page."""
        chosen = conditions.selected(OfDocuments(tuple(documents)), EDGE) if documents else None
        request = q.ScrollRequest(
            offset=after or None, limit=size, filter=chosen, with_payload=True, with_vector=[DENSE, SPARSE]
        )
        records, offset = self._shard.scroll(request)
        return [_row(record) for record in records], str(offset) if offset is not None else ""

    def count(self, condition: q.Filter | None = None) -> int:
        """Exact."""
        return self._shard.count(q.CountRequest(filter=condition))

    def sizes(self) -> tuple[int, int]:
        """All points, and those whose dense vectors are searched one by one."""
        info = self._shard.info()
        dense_indexed = info.indexed_vectors_count - info.points_count  # sparse vectors count as indexed from the start
        return info.points_count, max(0, info.points_count - max(0, dense_indexed))

    def flush(self) -> None:
        """Writes segments down and shortens the log."""
        self._shard.flush()

    def close(self) -> None:
        """Lets go of the folder."""
        self._shard.close()


def _request(query: StoreQuery, hidden: q.Filter | None) -> q.QueryRequest:
    """Of dense or of sparse search."""
    part = _nearest(query.dense if query.mode is Mode.DENSE else query.sparse)
    return q.QueryRequest(
        query.limit, query=part, filter=conditions.searchable(query.condition, hidden, EDGE), with_payload=True
    )


def _part(
    query: StoreQuery, vector: Sequence[float] | SparseVector | None, hidden: q.Filter | None
) -> q.QueryRequest | None:
    """One half of a hybrid search: ids and scores only. None where the question has no such half."""
    if vector is None or (isinstance(vector, SparseVector) and not vector.indices):
        return None
    condition = conditions.searchable(query.condition, hidden, EDGE)
    return q.QueryRequest(fusion.candidates(query.limit), query=_nearest(vector), filter=condition, with_payload=False)


def _nearest(vector: Sequence[float] | SparseVector | None) -> Any:
    if isinstance(vector, SparseVector):
        return q.Query.Nearest(q.SparseVector(vector.indices, vector.values), using=SPARSE)
    return q.Query.Nearest(_numbers(vector), using=DENSE)


def _found(point: q.ScoredPoint, query: StoreQuery) -> FoundPoint:
    return str(point.id), point.score, dense_score(query, point.score, None), point.payload or {}


def _id(number: int) -> str:
    return str(UUID(int=number))


def _row(record: q.Record) -> tuple[str, Payload, bytes, list[int], list[float]]:
    vectors: Any = record.vector
    words = vectors.get(SPARSE)
    dense = np.asarray(vectors[DENSE], np.float32).tobytes()
    indices, values = (list(words.indices), list(words.values)) if words is not None else ([], [])
    return str(record.id), record.payload or {}, dense, indices, values


def _dense(record: q.Record) -> list[float]:
    vector: Any = record.vector
    return list(vector[DENSE])


def _numbers(vector: Sequence[float] | None) -> list[float]:
    return [] if vector is None else np.asarray(vector, np.float32).tolist()
