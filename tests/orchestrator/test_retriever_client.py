"""The retriever's client against a retriever: what settings add to each search."""

from pathlib import Path

import grpc.aio
import pytest

from mesh.caching import DEFAULT_USE
from mesh.errors import InvalidInput
from murphey.retriever.v1 import retriever_pb2 as pb
from orchestrator.clients.retriever import RetrieverClient
from tests.ingest.real_retriever import serving_real_retriever
from tests.retriever.requests import message

MOST_WORDS_FIRST = ["tea tea tea tea tea", "hot tea milk", "hot hot", "milk"]
"""As the reranker sees them; a plain search finds the second first."""


async def found(client: RetrieverClient) -> list[str]:
    result = await client.search(
        "hot tea milk", collection="collections/default", search_filter=b"", limit=4, neighbors=0, use=DEFAULT_USE
    )
    return [passage.chunk.text for passage in result.passages]


async def test_passages_are_ordered_by_the_reranker_of_the_settings(tmp_path: Path) -> None:
    async with serving_real_retriever(tmp_path) as retriever:
        chunks = [message(text, document=str(row)) for row, text in enumerate(MOST_WORDS_FIRST)]
        await retriever.stub.UpsertChunks(pb.UpsertChunksRequest(chunks=chunks))
        async with grpc.aio.insecure_channel(retriever.target) as channel:
            assert (await found(RetrieverClient(channel, 10)))[0] == "hot tea milk"
            assert await found(RetrieverClient(channel, 10, "shared-words")) == MOST_WORDS_FIRST
            with pytest.raises(InvalidInput, match="no reranker 'nope'; it has 'shared-words'"):
                await found(RetrieverClient(channel, 10, "nope"))
