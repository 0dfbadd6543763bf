"""Threads that embed documents, a slice at a time; calls take turns, and no slice is begun while queries have the embedder.

A thread takes its next slice itself. When the event loop dealt them out, cores waited for it wherever it had something else
to do, and each slice cost it as much as receiving the chunks did.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass

import numpy as np

from mesh.access import tenants
from mesh.errors import Unavailable
from retriever.embedding import Embedder, Purpose, Slice, Vectors
from retriever.embedding_runs import counted
from retriever.leftovers import Leftovers


@dataclass(eq=False)
class _Call:
    """A caller's texts and what has been done of them."""

    texts: Sequence[str]
    owner: str
    """The tenant."""
    vectors: Vectors
    waiting: deque[Slice]
    left: int
    """Slices whose vectors are not there yet."""
    answer: "asyncio.Future[Vectors]"
    loop: asyncio.AbstractEventLoop

    def settle(self, error: Exception | None = None) -> None:
        """Answers the caller, unless that one has left. From any thread."""
        self.loop.call_soon_threadsafe(self._settle, error)

    def _settle(self, error: Exception | None) -> None:
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(self.vectors)
        else:
            self.answer.set_exception(error)


class DocumentThreads:
    """As many as the embedder embeds slices at once; they are started by the first call."""

    def __init__(self, embedder: Embedder, leftovers: Leftovers) -> None:
        self._embedder, self._leftovers = embedder, leftovers
        self._calls: deque[_Call] = deque()
        self._changed = threading.Condition()
        self._alone = threading.Lock() if embedder.slices_at_once == 1 else None
        self._queries = 0
        self._ended = False
        self._threads: list[threading.Thread] = []

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, dimensions), n at least 1. Slices that are begun when the caller leaves are finished, and kept."""
        slices = await asyncio.to_thread(self._embedder.cut, texts)
        vectors = np.empty((len(texts), self._embedder.dimensions), np.float32)
        loop = asyncio.get_running_loop()
        call = _Call(texts, tenants.current(), vectors, deque(slices), len(slices), loop.create_future(), loop)
        with self._changed:
            if self._ended:
                raise Unavailable("The embedder is just being closed.")
            self._calls.append(call)
            self._start()
            self._changed.notify_all()
        try:
            return await call.answer
        finally:
            self._drop(call)

    @contextmanager
    def held(self) -> Iterator[None]:
        """No slice is begun inside."""
        with self._changed:
            self._queries += 1
        try:
            yield
        finally:
            with self._changed:
                self._queries -= 1
                self._changed.notify_all()

    def turn(self) -> AbstractContextManager[object]:
        """Inside, no slice runs if the embedder does one thing at a time. Blocks."""
        return self._alone or nullcontext()

    def close(self) -> None:
        """Ends after the slices that are begun; calls that wait are cancelled by their event loop. Blocks."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for call in self._calls:
            call.loop.call_soon_threadsafe(call.answer.cancel)

    def _start(self) -> None:
        while len(self._threads) < self._embedder.slices_at_once:
            thread = threading.Thread(target=self._work, name=f"embedder_{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            call, cut = taken
            try:
                with self.turn():
                    self._run(call, cut)
            except Exception as error:
                self._drop(call)
                call.settle(error)

    def _take(self) -> tuple[_Call, Slice] | None:
        """The next slice of the call whose turn it is; None when there will be none any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or (self._calls and not self._queries))
            if self._ended:
                return None
            call = self._calls.popleft()
            cut = call.waiting.popleft()
            if call.waiting:
                self._calls.append(call)
            return call, cut

    def _run(self, call: _Call, cut: Slice) -> None:
        with counted(Purpose.DOCUMENT, len(cut.rows)):
            vectors = self._embedder.embed_slice(cut)
        call.vectors[cut.rows] = vectors
        self._leftovers.keep([call.texts[row] for row in cut.rows], vectors, call.owner)
        with self._changed:
            call.left -= 1
            done = call.left == 0
        if done:
            call.settle()

    def _drop(self, call: _Call) -> None:
        with self._changed, suppress(ValueError):
            self._calls.remove(call)
