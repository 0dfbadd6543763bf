"""What chunks and their words cost a store: the CPU of a search by words at two sizes, words of a chunk, bytes of its fields.

These are the unit costs of `murphey plan` that no other benchmark measures. No mesh and no model: an embedded shard is
filled with windows of the corpora and asked their questions. Its segments are not optimized, vectors are random.
"""

import random
import statistics
import time
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import qdrant_edge as q

from bench import corpora
from bench.frame import Report, Row
from bench.options import Options
from bench.synthetic import BATCH_CHUNKS, WINDOW_CHARACTERS
from retriever.chunks import Chunk
from retriever.search import DEFAULT_LIMIT
from retriever.sparse import DEFAULT_LANGUAGE, SparseVector, words_of
from retriever.stores import fusion
from retriever.stores.base import Mode, StoreQuery
from retriever.stores.edge.shard import Shard
from retriever.stores.payload import DENSE, SPARSE, to_payload

DIMENSIONS = 384
FULL_CHUNKS, QUICK_CHUNKS = 10_000, 500
GROWTH = 4
QUESTIONS = 30
"""Of each corpus: how much a search takes depends on how common its words are."""
LIMIT = fusion.candidates(DEFAULT_LIMIT)
"""As the half of a hybrid search asks. Reading what was found is in the figure and does not grow with the chunks."""
_FIELDS = ("payload_storage", "payload_index")


def run(options: Options) -> Report:
    """A new shard for each run."""
    chunks = QUICK_CHUNKS if options.quick else FULL_CHUNKS
    text = "\n".join(document.content for document in corpora.sample(corpora.INGEST_CORPORA, 0.1))
    measured = [_measure(chunks, text, seed) for seed in range(options.runs)]
    names = (
        (f"search by words, {chunks:,} chunks", "ms of CPU"),
        (f"search by words, {chunks * GROWTH:,} chunks", "ms of CPU"),
        ("different words of a chunk", "words"),
        ("fields of a chunk beside its text, on disk", "bytes"),
    )
    rows = tuple(Row(*name, tuple(one[place] for one in measured)) for place, name in enumerate(names))
    return Report(
        "words",
        rows,
        {"characters of a chunk": WINDOW_CHARACTERS, "questions": QUESTIONS * len(corpora.INGEST_CORPORA)},
        options.quick,
        (),
    )


def _measure(chunks: int, text: str, seed: int) -> tuple[float, float, float, float]:
    chooser, filled = random.Random(seed), 0
    asked = [query.text for corpus in corpora.INGEST_CORPORA for query in corpora.queries(corpus)[:QUESTIONS]]
    questions = [_words(text) for text in asked]
    with TemporaryDirectory() as folder:
        shard = Shard.create(Path(folder) / "shard", DIMENSIONS)
        words: list[int] = []
        searches_ms: list[float] = []
        for goal in (chunks, chunks * GROWTH):
            while filled < goal:
                points = [_point(filled + row, text, chooser, words) for row in range(BATCH_CHUNKS)]
                shard.apply(q.UpdateOperation.upsert_points(points))
                filled += BATCH_CHUNKS
            shard.flush()
            searches_ms.append(statistics.mean(_search_ms(shard, question) for question in questions))
        parts = (
            path for path in Path(folder).rglob("*") if path.is_file() and any(name in path.parts for name in _FIELDS)
        )
        fields_bytes = sum(path.stat().st_size for path in parts) / filled - WINDOW_CHARACTERS
        shard.close()
    return searches_ms[0], searches_ms[1], statistics.mean(words), fields_bytes


def _words(text: str) -> SparseVector:
    return words_of(DEFAULT_LANGUAGE).of_query(text)


def _point(number: int, text: str, chooser: random.Random, words: list[int]) -> q.Point:
    start = chooser.randrange(len(text) - WINDOW_CHARACTERS)
    document, index = divmod(number, 10)
    chunk = Chunk(
        id=str(uuid.UUID(int=number + 1)), document=f"collections/c/documents/d{document}", version="1", index=index,
        text=text[start : start + WINDOW_CHARACTERS], end=WINDOW_CHARACTERS, display_name=f"d{document}.txt",
    )  # fmt: skip
    found = words_of(DEFAULT_LANGUAGE).of_document(chunk.text)
    words.append(len(found.indices))
    dense = np.random.default_rng(number).standard_normal(DIMENSIONS).astype(np.float32).tolist()
    vectors: Any = {DENSE: dense, SPARSE: q.SparseVector(found.indices, found.values)}
    return q.Point(chunk.id, vectors, to_payload(chunk))


def _search_ms(shard: Shard, words: SparseVector) -> float:
    started_s = time.process_time()
    shard.search([StoreQuery(Mode.SPARSE, LIMIT, None, words)])
    return (time.process_time() - started_s) * 1e3
