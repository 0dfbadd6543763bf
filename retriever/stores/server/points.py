"""Chunks as the points of a Qdrant server, and back."""

from typing import Any

from qdrant_client import models

from retriever.sparse import SparseVector
from retriever.stores.base import IndexedChunk
from retriever.stores.payload import DENSE, SPARSE, to_chunk, to_payload


def to_point(item: IndexedChunk) -> models.PointStruct:
    """A chunk with its vectors."""
    sparse = models.SparseVector(indices=item.sparse.indices, values=item.sparse.values)
    vectors: dict[str, Any] = {DENSE: [float(number) for number in item.dense], SPARSE: sparse}
    return models.PointStruct(id=item.chunk.id, vector=vectors, payload=to_payload(item.chunk))


def from_record(record: models.Record) -> IndexedChunk:
    """The chunk of a point that was read with all its vectors."""
    vectors: Any = record.vector
    sparse = vectors.get(SPARSE)
    words = SparseVector(list(sparse.indices), list(sparse.values)) if sparse is not None else SparseVector([], [])
    return IndexedChunk(to_chunk(str(record.id), record.payload or {}), vectors[DENSE], words)
