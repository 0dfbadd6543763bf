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
from collections.abc import Callable
from pathlib import Path

from mesh import logs
from mesh.errors import Internal, MurpheyError
from retriever.stores.base import StoreQuery
from retriever.stores.edge.index import Index, Indexes
from retriever.stores.edge.wire import Reply, Request, read_frames, write_frame

log = logs.get(__name__)

MAX_SEARCHES_AT_ONCE = 16
"""More would make the first of them wait too long for the last."""
HOUSEKEEPING_S = 1.0


class Engine:
    """Runs requests against the indexes of a folder."""

    def __init__(self, indexes: Indexes, answer: Callable[[Reply], None]) -> None:
        self._indexes, self._answer = indexes, answer
        self._searches: deque[Request] = deque()
        self._others: deque[Request] = deque()

    def run(self, inbox: "queue.SimpleQueue[Request | None]") -> None:
        """Until None comes."""
        while True:
            if not self._take(inbox):
                return
            if self._searches:
                self._search()
            elif self._others:
                self._call(self._others.popleft())
            else:
                self._indexes.keep_house()

    def _take(self, inbox: "queue.SimpleQueue[Request | None]") -> bool:
        """Everything that waits; when nothing is to be done, waits for something, and housekeeping, to do."""
        block = not self._searches and not self._others
        try:
            while True:
                request = inbox.get(block=block, timeout=HOUSEKEEPING_S if block else None)
                if request is None:
                    return False
                (self._searches if request.method == Index.search.__name__ else self._others).append(request)
                block = False
        except queue.Empty:
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

    def _call(self, request: Request) -> None:
        try:
            target = self._indexes.open(request.index) if request.index else self._indexes
            value = getattr(target, request.method)(*request.arguments)
        except Exception as error:
            self._answer(Reply(request.id, error=_as_domain_error(error)))
        else:
            self._answer(Reply(request.id, value))


def _as_domain_error(error: Exception) -> MurpheyError:
    if isinstance(error, MurpheyError):
        return error
    log.error("store_failed", error=str(error)[:500], traceback=traceback.format_exc())
    return Internal(f"The store could not do it: {str(error)[:200]}")


def main() -> None:
    """Serves the folder named by the first argument until the parent closes its end, however it died."""
    logs.configure("retriever")
    inbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
    source, sink = sys.stdin.buffer, sys.stdout.buffer

    def receive() -> None:
        for message in read_frames(source):
            inbox.put(message)
        inbox.put(None)

    threading.Thread(target=receive, daemon=True).start()
    with Indexes(Path(sys.argv[1])) as indexes:
        try:
            Engine(indexes, lambda reply: write_frame(sink, reply)).run(inbox)
        except BrokenPipeError:
            log.warning("retriever_gone")


if __name__ == "__main__":
    main()
