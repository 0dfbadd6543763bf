"""Chunks with their vectors as messages, and back: what backups read from a retriever and keep."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from murphey.retriever.v1 import stored_chunks_pb2 as pb
from retriever.sparse import SparseVector
from retriever.stores.base import IndexedChunk
from retriever.stores.payload import to_chunk, to_payload

_DENSE = np.dtype("<f4")


def to_message(chunks: Sequence[IndexedChunk]) -> pb.StoredChunks:
    """A page; the same chunks make the same bytes, so that a backup keeps a page once."""
    return pb.StoredChunks(
        chunks=[
            pb.StoredChunk(
                id=item.chunk.id,
                payload=json.dumps(to_payload(item.chunk), sort_keys=True, separators=(",", ":")).encode(),
                dense=np.asarray(item.dense, _DENSE).tobytes(),
                words=item.sparse.indices,
                weights=item.sparse.values,
            )
            for item in chunks
        ]
    )


def from_message(message: pb.StoredChunks) -> list[IndexedChunk]:
    """The chunks that `to_message` was given."""
    return [_chunk(each) for each in message.chunks]


def _chunk(message: pb.StoredChunk) -> IndexedChunk:
    dense: Any = np.frombuffer(message.dense, _DENSE)  # a row of numbers
    return IndexedChunk(
        to_chunk(message.id, json.loads(message.payload)),
        dense,
        SparseVector(list(message.words), list(message.weights)),
    )
