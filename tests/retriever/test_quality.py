"""The real embedder against sentence-transformers, and the quality of search through the running service."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import ir_measures
import numpy as np
import pytest
import pytest_asyncio
from ir_measures import Qrel, ScoredDoc, nDCG

from mesh.server import serving
from mesh.weights import resolve
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub
from retriever.app import open_embedder, open_service
from retriever.embedding import Purpose
from retriever.settings import RetrieverSettings
from tests.retriever.conftest import shared_data

pytestmark = pytest.mark.slow
in_module_loop = pytest.mark.asyncio(loop_scope="module")
CHUNKS_AT_ONCE = 200
QUERIES_AT_ONCE = 8


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def cranfield() -> Path:
    return shared_data() / "retrieval" / "cranfield"


@pytest.mark.parametrize(("precision", "least", "least_repeated"), [("f32", 0.9999, 0.9999), ("int8", 0.98, 0.85)])
def test_embeddings_equal_those_of_sentence_transformers(
    models: Path, precision: Any, least: float, least_repeated: float
) -> None:
    from sentence_transformers import SentenceTransformer

    texts = [row["text"] for row in rows(cranfield() / "corpus.jsonl")[:40]]
    texts += ["", "a", "ünïcödé 漢字", "word " * 1_000]  # the last one is as far from any real text as can be
    reference = SentenceTransformer(str(resolve("all-minilm-l6-v2", models)), device="cpu")
    embedder = open_embedder(RetrieverSettings(models=models, device="cpu", precision=precision))
    made = embedder.embed(texts, Purpose.DOCUMENT)
    cosines = (made * reference.encode(texts, normalize_embeddings=True)).sum(axis=1)
    assert cosines[:-1].min() >= least
    assert cosines[-1] >= least_repeated
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-3)
    alone = np.concatenate([embedder.embed([text], Purpose.DOCUMENT) for text in texts[:10]])
    assert (alone * made[:10]).sum(axis=1).min() >= least
    assert (embedder.dimensions, embedder.max_tokens) == (384, 256)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def retriever(models: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RetrieverServiceStub]:
    """The whole service, as `python -m retriever` runs it, with Cranfield in its default collection."""
    settings = RetrieverSettings(data=tmp_path_factory.mktemp("data"), models=models, drain_s=0, device="cpu")
    async with (
        open_service(settings) as hosted,
        serving(settings, hosted) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = RetrieverServiceStub(channel)
        chunks = [_chunk(row) for row in rows(cranfield() / "corpus.jsonl") if row["text"] or row["title"]]
        for start in range(0, len(chunks), CHUNKS_AT_ONCE):
            await stub.UpsertChunks(pb.UpsertChunksRequest(chunks=chunks[start : start + CHUNKS_AT_ONCE]))
        yield stub


@in_module_loop
async def test_hybrid_search_is_good_and_better_than_either_half(retriever: RetrieverServiceStub) -> None:
    dense, sparse, hybrid = [
        await _ndcg(retriever, mode) for mode in (pb.SEARCH_MODE_DENSE, pb.SEARCH_MODE_SPARSE, pb.SEARCH_MODE_HYBRID)
    ]
    print(f"Cranfield nDCG@10: dense {dense:.4f}, BM25 {sparse:.4f}, hybrid {hybrid:.4f}")
    assert hybrid >= 0.46
    assert hybrid > max(dense, sparse)


@in_module_loop
async def test_fused_scores_fall_and_lie_between_0_and_1(retriever: RetrieverServiceStub) -> None:
    for query in rows(cranfield() / "queries.jsonl")[:25]:
        for limit in (1, 10, 200):
            response = await retriever.Search(pb.SearchRequest(text=query["text"], limit=limit))
            scores = [passage.score for passage in response.passages]
            assert scores == sorted(scores, reverse=True)
            assert 0 <= scores[-1] <= scores[0] <= 1
            assert all(-1 <= passage.dense_score <= 1.001 for passage in response.passages)


async def _ndcg(retriever: RetrieverServiceStub, mode: pb.SearchMode) -> float:
    turns = asyncio.Semaphore(QUERIES_AT_ONCE)

    async def ask(query: dict[str, Any]) -> list[ScoredDoc]:
        async with turns:
            response = await retriever.Search(pb.SearchRequest(text=query["text"], mode=mode))
        return [ScoredDoc(query["_id"], p.chunk.document.rsplit("/d", 1)[1], p.score) for p in response.passages]

    answers = await asyncio.gather(*map(ask, rows(cranfield() / "queries.jsonl")))
    lines = (cranfield() / "qrels.tsv").read_text().splitlines()[1:]
    qrels = [Qrel(query, document, int(score)) for query, document, score in (line.split("\t") for line in lines)]
    return float(
        ir_measures.calc_aggregate([nDCG @ 10], qrels, [passage for passages in answers for passage in passages])[
            nDCG @ 10
        ]
    )


def _chunk(row: dict[str, Any]) -> pb.Chunk:
    return pb.Chunk(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, row["_id"])),
        document=f"collections/default/documents/d{row['_id']}",
        version="1",
        text=row["text"] or row["title"],
        headings=[row["title"]] if row["title"] and row["text"] else [],
    )
