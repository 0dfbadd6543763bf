"""A large collection without hours of embedding: real text cut at random, real embeddings with noise on them.

Vectors are the corpora's own embeddings, moved by noise and brought back to length 1, so that they cluster as real ones
do; texts are windows of the corpora, so that BM25 sees real words in real frequencies.
"""

import asyncio
import random
import uuid
from collections.abc import Iterator

import grpc
import grpc.aio
import numpy as np

from bench import corpora
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

BATCH_CHUNKS = 500
WINDOW_CHARACTERS = 700
NOISE = 0.5
"""Length of the noise beside an embedding of length 1: neighbours stay neighbours, twins do not stay twins."""


async def base_vectors(stub: RetrieverServiceStub, count: int) -> np.ndarray:
    """(count, dimensions): embeddings of texts of the corpora."""
    texts = [document.content[:1000] for document in corpora.sample(corpora.INGEST_CORPORA, 1.0)]
    chosen = random.Random(1).choices(texts, k=count)
    answer = await stub.Embed(pb.EmbedRequest(texts=chosen, purpose=pb.EMBED_PURPOSE_DOCUMENT), timeout=600)
    return np.asarray([vector.values for vector in answer.vectors], np.float32)


def batches(collection: str, count: int, base: np.ndarray) -> Iterator[pb.UpsertChunksRequest]:
    """Requests that upsert `count` chunks, always the same ones; ten chunks make a document."""
    chooser, noise = random.Random(2), np.random.default_rng(3)
    text = "\n".join(document.content for document in corpora.sample(corpora.INGEST_CORPORA, 1.0))
    name = f"collections/{collection}"
    for start in range(0, count, BATCH_CHUNKS):
        size = min(BATCH_CHUNKS, count - start)
        rows = base[noise.integers(0, len(base), size)] + noise.normal(
            0, NOISE / base.shape[1] ** 0.5, (size, base.shape[1])
        )
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        chunks = [_chunk(name, start + row, text, chooser, rows[row]) for row in range(size)]
        yield pb.UpsertChunksRequest(collection=name, chunks=chunks)


def _chunk(collection: str, number: int, text: str, chooser: random.Random, vector: np.ndarray) -> pb.Chunk:
    start = chooser.randrange(len(text) - WINDOW_CHARACTERS)
    document, index = divmod(number, 10)
    return pb.Chunk(
        id=str(uuid.UUID(int=number + 1)), document=f"{collection}/documents/d{document}", version="1", index=index,
        text=text[start : start + WINDOW_CHARACTERS], span=pb.Span(start=index * 700, end=index * 700 + 700),
        display_name=f"d{document}.txt", vector=pb.Vector(values=vector.tolist()),
    )  # fmt: skip


async def fill(stub: RetrieverServiceStub, collection: str, count: int, base: np.ndarray) -> float:
    """Upserts `count` chunks, one request after the other; returns chunks a second."""
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    for request in batches(collection, count, base):
        await upsert(stub, request)
    return count / (loop.time() - started_s)


async def upsert(stub: RetrieverServiceStub, request: pb.UpsertChunksRequest) -> None:
    """Once more after a second where the retriever is overloaded, for a minute."""
    for _ in range(60):
        try:
            await stub.UpsertChunks(request, timeout=120)
            return
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
        await asyncio.sleep(1)
    raise RuntimeError("The retriever stayed overloaded for a minute.")
