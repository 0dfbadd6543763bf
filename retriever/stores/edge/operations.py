"""What can be done to an index: operations that can be written down, sent to another process, and applied again.

Applied a second time in the same order they change nothing: each sets or removes whole points, or sets all metadata.
"""

import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import qdrant_edge as q

from retriever.chunks import Description, DocumentVersion
from retriever.filters import Kind
from retriever.sparse import SparseVector
from retriever.stores import conditions
from retriever.stores.base import IndexedChunk, Selection
from retriever.stores.edge.shard import EDGE, INDEX_TYPES
from retriever.stores.payload import COLUMN_INDEXES, DENSE, SPARSE, column, metadata_columns, to_chunk, to_payload

ROWS_AT_ONCE = 32
"""Points in one update: searches wait for it, about 3 ms."""

PAGE_ROWS = 128
"""Points in one answer, with their vectors; searches wait for it as well."""

Row = tuple[str, dict[str, Any], bytes, list[int], list[float]]
"""A chunk as it travels: id, payload, dense vector as float32, its words and their weights. Pickled in a seventh of the
time that the dataclasses take."""


@dataclass(frozen=True, slots=True)
class Upsert:
    """Store these chunks: their ids, and their rows, pickled as many at a time as one update takes. Who passes them on, or
    writes them down, need not take them apart: searches would wait for that."""

    ids: tuple[str, ...]
    slices: tuple[bytes, ...]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Upsert":
        """Of all these rows."""
        slices = (rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE))
        return cls(tuple(row[0] for row in rows), tuple(map(_packed, slices)))

    def rows(self) -> Iterable[Row]:
        """All of them."""
        return (row for part in self.slices for row in _unpacked(part))


@dataclass(frozen=True, slots=True)
class Replace:
    """Remove all other versions of these documents."""

    versions: Sequence[DocumentVersion]


@dataclass(frozen=True, slots=True)
class Describe:
    """Replace the metadata of a version; what else is stored beside its chunks stays."""

    description: Description


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove what is selected."""

    selection: Selection


@dataclass(frozen=True, slots=True)
class AddFields:
    """Index these metadata keys."""

    fields: Sequence[tuple[str, Kind]]


Operation = Upsert | Replace | Describe | Delete | AddFields


def to_row(item: IndexedChunk) -> Row:
    """The chunk with its vectors."""
    dense = np.asarray(item.dense, np.float32).tobytes()
    return item.chunk.id, to_payload(item.chunk), dense, item.sparse.indices, item.sparse.values


def from_row(row: Row) -> IndexedChunk:
    """The chunk that `to_row` was given."""
    point_id, payload, dense, words, weights = row
    vector: Any = np.frombuffer(dense, np.float32)  # a row of numbers
    return IndexedChunk(to_chunk(point_id, payload), vector, SparseVector(words, weights))


def in_steps(operation: Operation) -> bool:
    """Whether it takes more than one update, so that a crash may leave half of it."""
    match operation:
        case Upsert():
            return len(operation.slices) > 1
        case AddFields(fields):
            return len(fields) > 1
        case _:
            return False


def updates(operation: Operation) -> Iterator[q.UpdateOperation]:
    """The engine's updates that make it up. Each is whole or not at all after a crash."""
    match operation:
        case Upsert():
            for part in operation.slices:
                yield q.UpdateOperation.upsert_points([_point(row) for row in _unpacked(part)])
        case Replace(versions):
            yield q.UpdateOperation.delete_points_by_filter(conditions.of_other_versions(list(versions), EDGE))
        case Describe(description):
            condition = conditions.of_versions([description.version], EDGE)
            yield q.UpdateOperation.set_payload_by_filter(condition, dict(metadata_columns(description.metadata)))
        case Delete(selection):
            yield q.UpdateOperation.delete_points_by_filter(conditions.selected(selection, EDGE))
        case AddFields(fields):
            for key, kind in fields:
                yield q.UpdateOperation.create_field_index(column(key, kind), INDEX_TYPES[COLUMN_INDEXES[kind]])


def _packed(rows: Sequence[Row]) -> bytes:
    return pickle.dumps(rows, protocol=pickle.HIGHEST_PROTOCOL)


def _unpacked(rows: bytes) -> list[Row]:
    return pickle.loads(rows)  # noqa: S301 - packed above


def _point(row: Row) -> q.Point:
    point_id, payload, dense, words, weights = row
    vectors = {DENSE: np.frombuffer(dense, np.float32).tolist(), SPARSE: q.SparseVector(words, weights)}
    return q.Point(point_id, vectors, payload)
