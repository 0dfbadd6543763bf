"""Batches what many callers want embedded at once: queries first, long document batches in slices between them.

Threads run the embedder, which releases the GIL. While queries are embedded, what comes in waits and then goes together, or
in a second batch once it is many: a lone query waits for nothing, and under load batches form by themselves. A call's
documents are cut into slices by length, and none is begun while queries wait: a query shares the machine with the slices under
way, or waits for the one that an embedder of one thread is at. Beyond a bound, calls are refused at once.
"""

import asyncio
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mesh.errors import Overloaded
from mesh.metrics import counter, gauge, histogram
from retriever.embedding import Embedder, Purpose, Vectors
from retriever.leftovers import Leftovers

MAX_BATCH_QUERIES = 32
MANY_QUERIES = 4
"""So many that wait need not wait for the batch under way, where the embedder takes several calls at a time."""
SLICE_CHARACTERS = 2_000
"""Documents in one run of the embedder: about 500 tokens, 50 ms of a core."""

_waiting = gauge("embed_waiting_texts", "Texts that wait to be embedded.", ("purpose",))
_begun = counter("embed_begun_texts", "Texts whose embedding was begun.", ("purpose",))
_embedded = counter("embedded_texts", "Texts that were embedded.", ("purpose",))
_batch_time = histogram("embed_batch_seconds", "Time of one run of the embedder.", ("purpose",))


@dataclass(eq=False)
class _Call:
    """A caller's texts and what has been done of them."""

    texts: Sequence[str]
    purpose: Purpose
    answer: asyncio.Future[Vectors]
    vectors: Vectors
    order: list[int]
    """Rows by length, so that a slice pads little."""
    begun: int = 0
    """How many rows of `order` are embedded, or are being."""
    done: list[int] = field(default_factory=list)
    """Rows whose vectors are there."""


class EmbeddingQueue:
    """The embedder, shared by all calls."""

    def __init__(self, embedder: Embedder, max_waiting_texts: int = 16_384, leftovers: Path | None = None) -> None:
        self._embedder, self._max_waiting = embedder, max_waiting_texts
        self._queries: deque[_Call] = deque()
        self._documents: deque[_Call] = deque()
        self._waiting_texts = 0
        self._leftovers = Leftovers(embedder.dimensions, leftovers)
        threads = 2 * embedder.slices_at_once if embedder.slices_at_once > 1 else 1
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="embedder")
        self._slices: set[asyncio.Task[None]] = set()
        self._batches: set[asyncio.Task[None]] = set()
        self._worker: asyncio.Task[None] | None = None
        self._work = asyncio.Event()

    @property
    def embedder(self) -> Embedder:
        """What it runs."""
        return self._embedder

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Vectors:
        """(n, dimensions). Overloaded when too many texts wait. A caller that leaves takes its texts with it.

        What is embedded for documents is kept, over a kill of this process too, until `stored` says that it need not be: for
        the next who asks, as a worker does that was killed and has come back.
        """
        kept = self._leftovers.find(texts) if purpose is Purpose.DOCUMENT else {}
        if not kept:
            return await self._embed_new(texts, purpose)
        missing = [row for row in range(len(texts)) if row not in kept]
        vectors = np.empty((len(texts), self._embedder.dimensions), np.float32)
        vectors[list(kept)] = np.stack(list(kept.values()))
        vectors[missing] = await self._embed_new([texts[row] for row in missing], purpose)
        return vectors

    def stored(self, texts: Sequence[str]) -> None:
        """Vectors of documents' texts are kept elsewhere now."""
        self._leftovers.forget(texts)

    async def _embed_new(self, texts: Sequence[str], purpose: Purpose) -> Vectors:
        if not texts:
            return np.empty((0, self._embedder.dimensions), np.float32)
        if self._waiting_texts and self._waiting_texts + len(texts) > self._max_waiting:
            raise Overloaded(f"{self._waiting_texts} texts wait to be embedded already. Try again in a moment.")
        if self._worker is None:
            self._worker = asyncio.create_task(self._run())
        vectors = np.empty((len(texts), self._embedder.dimensions), np.float32)
        call = _Call(texts, purpose, asyncio.get_running_loop().create_future(), vectors, _by_length(texts))
        (self._queries if purpose is Purpose.QUERY else self._documents).append(call)
        self._count(len(texts), purpose)
        self._work.set()
        try:
            return await call.answer
        finally:
            self._count(-len(texts), purpose)

    async def close(self) -> None:
        """Ends after the runs that go on; calls that wait are cancelled."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, *self._slices, *self._batches, return_exceptions=True)
        for call in (*self._queries, *self._documents):
            call.answer.cancel()
        await asyncio.to_thread(self._threads.shutdown)
        self._leftovers.close()
        self._embedder.close()

    async def _run(self) -> None:
        while True:
            _drop_answered(self._queries)
            _drop_answered(self._documents)
            if self._queries and self._may_begin_batch():
                self._in_background(self._run_queries(self._next_batch()), self._batches)
            elif self._may_begin_slice():
                self._in_background(self._run_slice(*self._next_turn()), self._slices)
            else:
                self._work.clear()
                await self._work.wait()

    def _may_begin_batch(self) -> bool:
        many = len(self._queries) >= MANY_QUERIES and len(self._batches) < self._embedder.slices_at_once
        return many or not self._batches

    def _may_begin_slice(self) -> bool:
        idle = not (self._queries or self._batches)
        return idle and bool(self._documents) and len(self._slices) < self._embedder.slices_at_once

    def _in_background(self, work: Coroutine[Any, Any, None], running: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        running.add(task)
        task.add_done_callback(running.discard)
        task.add_done_callback(lambda _: self._work.set())

    def _next_batch(self) -> list[_Call]:
        """As many waiting calls as fit, each whole."""
        batch = [self._queries.popleft()]
        while self._queries and sum(len(c.texts) for c in batch) + len(self._queries[0].texts) <= MAX_BATCH_QUERIES:
            batch.append(self._queries.popleft())
        return batch

    async def _run_queries(self, batch: Sequence[_Call]) -> None:
        try:
            vectors = await self._embed([text for call in batch for text in call.texts], Purpose.QUERY)
        except Exception as error:
            for call in batch:
                _fail(call, error)
            return
        start = 0
        for call in batch:
            if not call.answer.done():
                call.answer.set_result(vectors[start : start + len(call.texts)])
            start += len(call.texts)

    def _next_turn(self) -> tuple[_Call, list[int]]:
        """The next slice of the call whose turn it is; calls take turns."""
        call = self._documents.popleft()
        rows = _next_slice(call)
        call.begun += len(rows)
        if call.begun < len(call.texts):
            self._documents.append(call)
        return call, rows

    async def _run_slice(self, call: _Call, rows: list[int]) -> None:
        try:
            call.vectors[rows] = await self._embed([call.texts[row] for row in rows], Purpose.DOCUMENT)
        except Exception as error:
            _fail(call, error)
            return
        call.done += rows
        self._leftovers.keep([call.texts[row] for row in rows], call.vectors[rows])
        if len(call.done) == len(call.texts) and not call.answer.done():
            call.answer.set_result(call.vectors)

    async def _embed(self, texts: Sequence[str], purpose: Purpose) -> Vectors:
        started = time.perf_counter()
        _begun.labels(purpose.value).inc(len(texts))
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._embedder.embed, texts, purpose)
        try:
            vectors = await asyncio.shield(work)
            _embedded.labels(purpose.value).inc(len(texts))
            return vectors
        finally:
            _batch_time.labels(purpose.value).observe(time.perf_counter() - started)

    def _count(self, texts: int, purpose: Purpose) -> None:
        self._waiting_texts += texts
        _waiting.labels(purpose.value).inc(texts)


def _by_length(texts: Sequence[str]) -> list[int]:
    return sorted(range(len(texts)), key=lambda row: -len(texts[row]))


def _next_slice(call: _Call) -> list[int]:
    """The next rows that make SLICE_CHARACTERS together, at least one."""
    rows: list[int] = []
    characters = 0
    for row in call.order[call.begun :]:
        characters += len(call.texts[row])
        if rows and characters > SLICE_CHARACTERS:
            break
        rows.append(row)
    return rows


def _drop_answered(calls: deque[_Call]) -> None:
    """Takes out calls that are done or whose caller has left."""
    for call in [call for call in calls if call.answer.done()]:
        calls.remove(call)


def _fail(call: _Call, error: Exception) -> None:
    if not call.answer.done():
        call.answer.set_exception(error)
