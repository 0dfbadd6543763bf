"""Embeds questions, and keeps their vectors: they change with the embedder only.

Each tenant's are kept apart: who is answered sooner would learn that another one has asked the same.
"""

import numpy as np

from mesh.access import tenants
from mesh.caching import ByteCache, Use, digest
from retriever.batching import EmbeddingQueue
from retriever.embedding import Purpose, Vectors


class QueryVectors:
    """The vectors of questions, of every embedder."""

    def __init__(self, cache: ByteCache) -> None:
        self._cache = cache

    async def of_query(self, queue: EmbeddingQueue, text: str, use: Use) -> Vectors:
        """(dimensions,), made by the queue that all calls of an embedder share."""
        embedder = queue.embedder
        key = digest(embedder.name, embedder.version, tenants.current(), text)
        kept = self._cache.get(key, use)
        if kept is not None:
            return np.frombuffer(kept, np.float32)
        vector = (await queue.embed([text], Purpose.QUERY))[0]
        if use.write:
            self._cache.put(key, vector.tobytes())
        return vector
