"""Answers to searches, kept as they are sent: the same request finds the same while the index's contents are the same.

What else a result depends on (embedder, reranker, this process's settings) cannot change while the process runs.
"""

import zlib
from collections.abc import Awaitable, Callable

from mesh.caching import ByteCache, Use, digest
from murphey.retriever.v1 import retriever_pb2 as pb
from retriever.catalog import CollectionRecord
from retriever.corpus import CorpusVersions

_FAST = 1


class KeptSearches:
    """A cache of responses by request, index and state of its contents."""

    def __init__(self, cache: ByteCache, versions: CorpusVersions) -> None:
        self._cache = cache
        self.versions = versions
        """The states of the indexes."""

    async def search(
        self,
        request: pb.SearchRequest,
        record: CollectionRecord,
        use: Use,
        search: Callable[[], Awaitable[pb.SearchResponse]],
    ) -> pb.SearchResponse:
        """What was kept of the collection's live index, or what `search` finds. The state is asked for before the search,
        which may find another index live: then its answer is not kept, and names no state."""
        version = await self.versions.of(record.index)
        key = digest(record.index, version, _without_cache_control(request))
        kept = self._cache.get(key, use)
        if kept is not None:
            return pb.SearchResponse.FromString(zlib.decompress(kept))
        found = await search()
        if found.index_version != record.index_version:
            return found
        found.corpus_version = version.contents
        if use.write:
            self._cache.put(key, zlib.compress(_to_keep(found), _FAST))
        return found


def _without_cache_control(request: pb.SearchRequest) -> bytes:
    asked = pb.SearchRequest()
    asked.CopyFrom(request)
    asked.ClearField("cache")
    return asked.SerializeToString(deterministic=True)


def _to_keep(found: pb.SearchResponse) -> bytes:
    """Its times were those of another search."""
    kept = pb.SearchResponse()
    kept.CopyFrom(found)
    kept.ClearField("embed_time")
    kept.ClearField("store_time")
    kept.ClearField("rerank_time")
    kept.cached = True
    return kept.SerializeToString()
