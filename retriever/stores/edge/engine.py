"""The child process that holds the shards: takes requests from standard input, answers on standard output, one at a time.

qdrant-edge holds Python's GIL while it works: milliseconds for a search, a tenth of a second to open a large shard. In a
process of its own that stops neither the server's event loop nor the embedder. Searches go before everything else
and those that wait are answered as one batch; updates keep their order.
"""

import queue
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from mesh import logs
from mesh.errors import Internal, MurpheyError, Unavailable
from retriever.stores.base import StoreQuery
from retriever.stores.edge.index import Indexes, Limits
from retriever.stores.edge.wire import Reply, Request, read_frames, write_frame

log = logs.get(__name__)

MAX_SEARCHES_AT_ONCE = 16
"""More would make the first of them wait too long for the last."""
_LOCKED = "Can't init WAL: Kind(WouldBlock)"
"""What the engine says when another process has the lock of its log."""
HOUSEKEEPING_S = 0.5
"""Longest wait between two looks at what is due: flushing, rebuilding."""
_READS = frozenset({"count", "ping", "windows"})

Inbox = queue.SimpleQueue[Request | Literal["wake"] | None]


class Engine:
    """Runs requests against the indexes of a folder."""

    def __init__(self, indexes: Indexes, answer: Callable[[Reply], None]) -> None:
        self._indexes, self._answer = indexes, answer
        self._searches: deque[Request] = deque()
        self._reads: deque[Request] = deque()
        self._writes: deque[Request] = deque()
        self._steps: Iterator[Reply | None] | None = None

    def run(self, inbox: Inbox) -> None:
        """Until None comes. Reads first, then a step of housekeeping, then one write."""
        busy = True
        while self._take(inbox, wait=not busy):
            busy = True
            if self._searches:
                self._search()
            elif self._reads:
                self._call(self._reads.popleft())
            else:
                busy = self._indexes.keep_house() or bool(self._writes)
                busy = self._write() and busy

    def _take(self, inbox: Inbox, *, wait: bool) -> bool:
        """Everything that came; False when nothing more will. Waits for something when there is nothing to do."""
        try:
            while True:
                item = inbox.get(block=wait, timeout=HOUSEKEEPING_S)
                wait = False
                if item is None:
                    return False
                if isinstance(item, Request):
                    self._queue_of(item).append(item)
        except queue.Empty:
            return True

    def _queue_of(self, request: Request) -> deque[Request]:
        if request.method == "search":
            return self._searches
        return self._reads if request.method in _READS else self._writes

    def _write(self) -> bool:
        """A step of the next write; False when its index is being copied, and the write must wait."""
        if not self._writes:
            return True
        request = self._writes[0]
        if request.index and not self._indexes.writable(request.index):
            return False
        if self._steps is None:
            self._steps = self._started(request)
        try:
            value = next(self._steps)
        except Exception as error:
            value = Reply(request.id, error=_as_domain_error(error))
        if value is not None:
            self._answer(value)
            self._writes.popleft()
            self._steps = None
        return True

    def _search(self) -> None:
        """As many as go together: of one index."""
        index, batch = self._searches[0].index, []
        while self._searches and self._searches[0].index == index and len(batch) < MAX_SEARCHES_AT_ONCE:
            batch.append(self._searches.popleft())
        queries: list[StoreQuery] = [request.arguments[0] for request in batch]
        try:
            answers = self._indexes.open(index).search(queries)
        except Exception as error:
            if len(batch) > 1:  # one bad query must not fail the others
                for request in batch:
                    self._call(Request(request.id, index, "search_one", request.arguments))
                return
            self._answer(Reply(batch[0].id, error=_as_domain_error(error)))
            return
        for request, found in zip(batch, answers, strict=True):
            self._answer(Reply(request.id, found))

    def _started(self, request: Request) -> Iterator[Reply | None]:
        """Runs a write; one that goes in steps gives None after each and its result after the last."""
        value = self._run(request)
        if isinstance(value, Iterator):
            for step in value:
                value = step
                if step is None:
                    yield None
        yield Reply(request.id, value)

    def _call(self, request: Request) -> None:
        try:
            self._answer(Reply(request.id, self._run(request)))
        except Exception as error:
            self._answer(Reply(request.id, error=_as_domain_error(error)))

    def _run(self, request: Request) -> Any:
        target = self._indexes.open(request.index) if request.index else self._indexes
        return getattr(target, request.method)(*request.arguments)


def _as_domain_error(error: Exception) -> MurpheyError:
    if isinstance(error, MurpheyError):
        return error
    if _LOCKED in str(error):
        return Unavailable(
            "Another process still has the store open, such as one that is ending. Try again in a moment."
        )
    log.error("store_failed", error=str(error)[:500], traceback=traceback.format_exc())
    return Internal(f"The store could not do it: {str(error)[:200]}")


def main() -> None:
    """Serves the folder named by the first argument until the parent closes its end, however it died."""
    logs.configure("retriever")
    inbox: Inbox = queue.SimpleQueue()
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    limits = Limits(optimize_after_chunks=int(sys.argv[2]))

    def receive() -> None:
        try:
            for message in read_frames(source):
                inbox.put(message)
        finally:  # whatever ends it: a process that lived on would keep the folder's lock for ever
            inbox.put(None)

    threading.Thread(target=receive, daemon=True).start()
    with Indexes(Path(sys.argv[1]), limits, wake=lambda: inbox.put("wake")) as indexes:
        try:
            Engine(indexes, lambda reply: write_frame(sink, reply)).run(inbox)
        except BrokenPipeError:
            log.warning("retriever_gone")


if __name__ == "__main__":
    main()
