"""`murphey search` against a retriever: what its options ask for."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from murphey.retriever.v1 import retriever_pb2 as pb
from tests.ingest.real_retriever import serving_real_retriever
from tests.retriever.requests import message

pytestmark = pytest.mark.slow

TEXTS = ["tea tea tea tea tea", "hot tea milk", "hot hot", "milk"]


async def murphey(*arguments: str) -> tuple[int, str, str]:
    """Its exit code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from mesh.cli import main; main()", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_search_orders_passages_anew_where_asked(tmp_path: Path) -> None:
    async with serving_real_retriever(tmp_path) as retriever:
        chunks = [message(text, document=str(row)) for row, text in enumerate(TEXTS)]
        await retriever.stub.UpsertChunks(pb.UpsertChunksRequest(chunks=chunks))
        ask = ("search", "hot tea milk", "--target", retriever.target, "--json")
        plain, reranked, named, unknown, diverse, too_diverse = await asyncio.gather(
            murphey(*ask), murphey(*ask, "--rerank"), murphey(*ask, "--reranker", "shared-words"),
            murphey(*ask, "--reranker", "nope"), murphey(*ask, "--diversity", "0.9"), murphey(*ask, "--diversity", "2"),
        )  # fmt: skip
    found = [json.loads(out)["passages"] for _, out, _ in (plain, reranked, named, diverse)]
    assert found[0][0]["text"] == "hot tea milk"
    assert all(passage["rerank_score"] is None for passage in found[0])
    assert [passage["text"] for passage in found[1]] == TEXTS
    assert [passage["rerank_score"] for passage in found[1]] == [5, 3, 2, 1]
    assert found[2] == found[1]
    assert sorted(passage["text"] for passage in found[3]) == sorted(TEXTS)
    assert unknown[0] == 1
    assert "no reranker 'nope'; it has 'shared-words'" in unknown[2]
    assert too_diverse[0] == 2
