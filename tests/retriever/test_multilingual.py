"""A German or Spanish question finds an English passage, in a collection that is made with the multilingual embedder."""

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from mesh import weights
from mesh.server import serving
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub
from retriever.app import open_service
from retriever.settings import RetrieverSettings
from tests.retriever.conftest import shared_data

pytestmark = pytest.mark.slow
EMBEDDER, COLLECTION = "multilingual-e5-small", "collections/passages"
QUESTIONS_OF_A_LANGUAGE = 100


def rows(language: str, name: str) -> list[dict[str, Any]]:
    path = shared_data() / "retrieval" / f"xquad-{language}" / name
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_questions_find_passages_of_another_language(models: Path, tmp_path: Path) -> None:
    await asyncio.to_thread(weights.pull, EMBEDDER, models)
    settings = RetrieverSettings(data=tmp_path, models=models, drain_s=0, device="cpu")
    async with (
        open_service(settings) as hosted,
        serving(settings, hosted) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = RetrieverServiceStub(channel)
        wanted = pb.Collection(name=COLLECTION, embedder=EMBEDDER)
        made = (await stub.CreateCollection(pb.CreateCollectionRequest(collection=wanted))).collection
        assert (made.dimensions, made.max_embedder_tokens) == (384, 512)
        chunks = [_chunk(row) for row in rows("en", "corpus.jsonl")]
        await stub.UpsertChunks(pb.UpsertChunksRequest(collection=COLLECTION, chunks=chunks))
        found = {language: await _recall(stub, language) for language in ("de", "es")}
    print(f"recall@5 of English passages: {found}")
    assert min(found.values()) >= 0.9


async def _recall(stub: RetrieverServiceStub, language: str) -> float:
    """The share of questions with their passage among the first five."""
    lines = (shared_data() / "retrieval" / f"xquad-{language}" / "qrels.tsv").read_text().splitlines()[1:]
    passage_of = {question: f"{COLLECTION}/documents/d{passage}" for question, passage, _ in map(str.split, lines)}
    questions, right = rows(language, "queries.jsonl"), 0
    questions = questions[:: len(questions) // QUESTIONS_OF_A_LANGUAGE]
    for question in questions:
        request = pb.SearchRequest(collection=COLLECTION, text=question["text"], limit=5)
        passages = (await stub.Search(request)).passages
        right += any(passage.chunk.document == passage_of[question["_id"]] for passage in passages)
    return right / len(questions)


def _chunk(row: dict[str, Any]) -> pb.Chunk:
    return pb.Chunk(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, row["_id"])), document=f"{COLLECTION}/documents/d{row['_id']}",
        version="1", text=row["text"], headings=[row["title"]],
    )  # fmt: skip
