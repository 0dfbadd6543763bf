"""One embedder for all that many callers want embedded at once: queries first, long document batches in slices between them.

Threads run the embedder, which releases the GIL. While queries are embedded, what comes in waits and then goes together, or
in a second batch once it is many: a lone query waits for nothing, and under load batches form by themselves. A call's
documents are cut into slices by length, and none is begun while queries wait (document_threads.py): a query shares the
machine with the slices under way, or waits for the one that an embedder of one thread is at. Beyond a bound, calls are
refused at once.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mesh.access import tenants
from mesh.errors import Overloaded
from mesh.metrics import gauge
from retriever.document_threads import DocumentThreads
from retriever.embedding import Embedder, Purpose, Vectors
from retriever.embedding_runs import counted
from retriever.leftovers import Leftovers

MAX_BATCH_QUERIES = 32
MANY_QUERIES = 4
"""So many that wait need not wait for the batch under way, where the embedder takes several calls at a time."""

_waiting = gauge("embed_waiting_texts", "Texts that wait to be embedded.", ("purpose",))


@dataclass(eq=False)
class _Call:
    """A caller's queries."""

    texts: Sequence[str]
    answer: "asyncio.Future[Vectors]"


class EmbeddingQueue:
    """The embedder, shared by all calls."""

    def __init__(self, embedder: Embedder, max_waiting_texts: int = 16_384, leftovers: Path | None = None) -> None:
        self._embedder, self._max_waiting = embedder, max_waiting_texts
        self._queries: deque[_Call] = deque()
        self._waiting_texts = 0
        self._leftovers = Leftovers(embedder.dimensions, leftovers)
        self._documents = DocumentThreads(embedder, self._leftovers)
        self._threads = ThreadPoolExecutor(embedder.slices_at_once, thread_name_prefix="query-embedder")
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
        kept = self._leftovers.find(texts, tenants.current()) if purpose is Purpose.DOCUMENT else {}
        if not kept:
            return await self._embed_new(texts, purpose)
        missing = [row for row in range(len(texts)) if row not in kept]
        vectors = np.empty((len(texts), self._embedder.dimensions), np.float32)
        vectors[list(kept)] = np.stack(list(kept.values()))
        vectors[missing] = await self._embed_new([texts[row] for row in missing], purpose)
        return vectors

    def stored(self, texts: Sequence[str]) -> None:
        """Vectors of the caller's texts are kept elsewhere now."""
        self._leftovers.forget(texts, tenants.current())

    async def _embed_new(self, texts: Sequence[str], purpose: Purpose) -> Vectors:
        if not texts:
            return np.empty((0, self._embedder.dimensions), np.float32)
        if self._waiting_texts and self._waiting_texts + len(texts) > self._max_waiting:
            raise Overloaded(f"{self._waiting_texts} texts wait to be embedded already. Try again in a moment.")
        self._count(len(texts), purpose)
        try:
            if purpose is Purpose.DOCUMENT:
                return await self._documents.embed(texts)
            with self._documents.held():
                return await self._embed_queries(texts)
        finally:
            self._count(-len(texts), purpose)

    async def close(self) -> None:
        """Ends after the runs that go on; calls that wait are cancelled."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, *self._batches, return_exceptions=True)
        for call in self._queries:
            call.answer.cancel()
        await asyncio.to_thread(self._documents.close)
        await asyncio.to_thread(self._threads.shutdown)
        self._leftovers.close()
        self._embedder.close()

    async def _embed_queries(self, texts: Sequence[str]) -> Vectors:
        call = _Call(texts, asyncio.get_running_loop().create_future())
        self._queries.append(call)
        self._work.set()
        if self._worker is None:
            self._worker = asyncio.create_task(self._run())
        return await call.answer

    async def _run(self) -> None:
        while True:
            _drop_answered(self._queries)
            if self._queries and self._may_begin_batch():
                task = asyncio.create_task(self._run_queries(self._next_batch()))
                self._batches.add(task)
                task.add_done_callback(self._batch_ended)
            else:
                self._work.clear()
                await self._work.wait()

    def _may_begin_batch(self) -> bool:
        many = len(self._queries) >= MANY_QUERIES and len(self._batches) < self._embedder.slices_at_once
        return many or not self._batches

    def _batch_ended(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        self._work.set()

    def _next_batch(self) -> list[_Call]:
        """As many waiting calls as fit, each whole."""
        batch = [self._queries.popleft()]
        while self._queries and sum(len(c.texts) for c in batch) + len(self._queries[0].texts) <= MAX_BATCH_QUERIES:
            batch.append(self._queries.popleft())
        return batch

    async def _run_queries(self, batch: Sequence[_Call]) -> None:
        try:
            vectors = await self._embed([text for call in batch for text in call.texts])
        except Exception as error:
            for call in batch:
                _fail(call, error)
            return
        start = 0
        for call in batch:
            if not call.answer.done():
                call.answer.set_result(vectors[start : start + len(call.texts)])
            start += len(call.texts)

    async def _embed(self, queries: Sequence[str]) -> Vectors:
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._threads, self._run_now, queries))

    def _run_now(self, queries: Sequence[str]) -> Vectors:
        with self._documents.turn(), counted(Purpose.QUERY, len(queries)):
            return self._embedder.embed(queries, Purpose.QUERY)

    def _count(self, texts: int, purpose: Purpose) -> None:
        self._waiting_texts += texts
        _waiting.labels(purpose.value).inc(texts)


def _drop_answered(calls: deque[_Call]) -> None:
    """Takes out calls that are done or whose caller has left."""
    for call in [call for call in calls if call.answer.done()]:
        calls.remove(call)


def _fail(call: _Call, error: Exception) -> None:
    if not call.answer.done():
        call.answer.set_exception(error)
