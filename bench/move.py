"""A collection moved from the embedded store to a Qdrant server with its vectors, while it is searched: how long, and whether
both answer the same.

No mesh and no model: windows of the corpora under clustered random vectors, and no embedder anywhere. Where
MURPHEY_TEST_QDRANT_URL names no server, the one moved to is the stand-in (`bench/qdrant_stand_in.py`): the real client and
protocol before Qdrant's embedded engine, which compares every vector; the embedded store uses its graph.
"""

import asyncio
import os
import random
import subprocess
import sys
import time
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
from qdrant_client import AsyncQdrantClient

from bench import corpora
from bench.frame import Report, Row
from bench.options import Options
from bench.synthetic import WINDOW_CHARACTERS
from retriever.catalog import CollectionRecord, FileCatalog, from_json
from retriever.chunks import Chunk
from retriever.collections import Collections
from retriever.moving.mover import Mover, Progress
from retriever.moving.state import MoveFiles
from retriever.named_embedders import NamedEmbedders
from retriever.placing import EDGE, SERVER, PlacedCatalog
from retriever.sparse import DEFAULT_LANGUAGE, words_of
from retriever.stores.base import IndexedChunk
from retriever.stores.edge.store import EdgeStore
from retriever.stores.placed import PlacedStore
from retriever.stores.server.catalog import ServerCatalog
from retriever.stores.server.store import ServerStore

DIMENSIONS, CLUSTERS, NOISE = 384, 2_000, 0.5
FULL_CHUNKS, QUICK_CHUNKS = 100_000, 1_000
FULL_QUESTIONS, QUICK_QUESTIONS = 500, 50
COLLECTION, INDEX = "default", "default--bench"
BATCH_CHUNKS = 500


def run(options: Options) -> Report:
    """New stores for each run."""
    chunks, asked = (QUICK_CHUNKS, QUICK_QUESTIONS) if options.quick else (FULL_CHUNKS, FULL_QUESTIONS)
    measured = [asyncio.run(_measure(chunks, asked, seed)) for seed in range(options.runs)]
    names = ((f"{chunks:,} chunks, edge to server", "s"), (f"same top 10 of {asked} questions", "%"))
    rows = tuple(Row(*name, tuple(one[place] for one in measured)) for place, name in enumerate(names))
    return Report("move", rows, {"dimensions": DIMENSIONS, "texts embedded": 0}, options.quick, ())


async def _measure(chunks: int, asked: int, seed: int) -> tuple[float, float]:
    """Seconds, comparison included, and the share of questions with the same first ten."""
    with TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            client = _client(Path(folder), stack)
            edge = await EdgeStore.open(Path(folder) / "indexes")
            store = PlacedStore(EDGE, {EDGE: lambda: edge, SERVER: lambda: ServerStore(client)})
            stack.push_async_callback(store.close)
            store.named(EDGE)
            catalog = PlacedCatalog(FileCatalog(Path(folder) / "catalog.json"), lambda: ServerCatalog(client), store)
            await catalog.put(_record())
            embedders = NamedEmbedders(cast("Any", _Embedder()), [], _no_embedder)
            stack.push_async_callback(embedders.close)
            collections = Collections(catalog, store, embedders)
            await collections.open()
            await _fill(store, chunks, seed)
            mover = Mover(collections, store, MoveFiles(Path(folder) / "moves"))
            stack.push_async_callback(mover.close)
            started_s = time.monotonic()
            moving = mover.move(COLLECTION, SERVER, questions_asked=asked, least_agreement=0.0)
            last = [progress async for progress in moving][-1]
            return time.monotonic() - started_s, _share(last)


def _share(last: Progress) -> float:
    return 100 * last.agreement.share if last.agreement else 0.0


def _client(folder: Path, stack: AsyncExitStack) -> AsyncQdrantClient:
    if url := os.environ.get("MURPHEY_TEST_QDRANT_URL"):
        return AsyncQdrantClient(url=url, prefer_grpc=True)
    command = [sys.executable, "-m", "bench.qdrant_stand_in", str(folder / "peer")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    stack.callback(process.communicate)
    stack.callback(process.kill)
    port = int((process.stdout or sys.stdin.buffer).readline())
    return AsyncQdrantClient("http://127.0.0.1:6333", grpc_port=port, prefer_grpc=True, check_compatibility=False)


def _record() -> CollectionRecord:
    return from_json({
        "id": COLLECTION, "embedder": "none", "embedder_version": "1", "dimensions": DIMENSIONS, "chunk_tokens": 240,
        "overlap_tokens": 32, "language": DEFAULT_LANGUAGE, "index": INDEX, "created": "2026-01-01T00:00:00+00:00",
        "fields": {},
    })  # fmt: skip


async def _fill(store: PlacedStore, count: int, seed: int) -> None:
    chooser, noise = random.Random(seed), np.random.default_rng(seed)
    text = "\n".join(document.content for document in corpora.sample(corpora.INGEST_CORPORA, 1.0))
    centres = noise.standard_normal((CLUSTERS, DIMENSIONS))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    for at in range(0, count, BATCH_CHUNKS):
        rows = centres[noise.integers(0, CLUSTERS, BATCH_CHUNKS)]
        rows = rows + noise.normal(0, NOISE / DIMENSIONS**0.5, rows.shape)
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        items = [_item(at + row, text, chooser, rows[row]) for row in range(BATCH_CHUNKS)]
        await store.upsert(INDEX, items, staged=False)


def _item(number: int, text: str, chooser: random.Random, vector: Any) -> IndexedChunk:
    start = chooser.randrange(len(text) - WINDOW_CHARACTERS)
    document, index = divmod(number, 10)
    chunk = Chunk(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))), document=f"collections/default/documents/d{document}",
        version="1", index=index, text=text[start : start + WINDOW_CHARACTERS], end=WINDOW_CHARACTERS,
        display_name=f"d{document}.txt",
    )  # fmt: skip
    return IndexedChunk(chunk, vector, words_of(DEFAULT_LANGUAGE).of_document(chunk.text))


class _Embedder:
    """Fails the run, should anything be embedded."""

    name, version, dimensions, max_tokens, slices_at_once = "none", "1", DIMENSIONS, 512, 1

    def embed(self, *_: object) -> Any:
        raise RuntimeError("Nothing is to be embedded.")

    cut = embed_slice = embed

    def close(self) -> None:
        pass


def _no_embedder(name: str) -> Any:
    raise RuntimeError(f"No embedder {name} is to be opened.")
