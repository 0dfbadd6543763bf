"""The process that holds one shard: takes requests from standard input, answers on standard output, one at a time.

qdrant-edge holds Python's GIL while it works. In a process of its own that stops neither the server's event loop nor the
embedder, nor the searches of other indexes. Searches go before everything else, and those that wait are answered as one
batch; updates keep their order.

`python -m retriever.stores.edge.engine FOLDER OPTIMIZE_AFTER DIMENSIONS` opens or creates an index; with the name of a
sub-folder as a fourth argument it becomes the successor of the process that holds the index.
"""

import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from mesh import logs
from mesh.errors import Internal, MurpheyError, Unavailable
from retriever.stores.base import StoreQuery
from retriever.stores.edge.index import Index, Limits
from retriever.stores.edge.successor import Successor
from retriever.stores.edge.wire import UNASKED, Inbox, Rebuilt, Reply, Request, write_frame

log = logs.get(__name__)

MAX_SEARCHES_AT_ONCE = 16
"""More would make the first of them wait too long for the last."""
WRITING_SHARE, SEARCHED_S = 0.12, 1.0
"""Of the time, for writes, so long after a search: a bulk upsert leaves those who search some of the machine, and is still
several times as fast as an embedder on the same cores."""
HOUSEKEEPING_S = 0.5
"""Longest wait between two looks at what is due: flushing, rebuilding."""
COPYING_S = 0.02
"""Between two looks at whether the shard has been copied, when a write waits for that."""
_LOCKED = "Can't init WAL: Kind(WouldBlock)"
"""What the engine says when another process has the lock of its log."""
NICENESS = 10
"""Of a successor while it catches up."""
_READS = frozenset({"busy", "count", "windows"})

Numbered = tuple[int, Request]
Say = Callable[[int, object], None]


class Engine:
    """Runs requests against one index."""

    def __init__(self, index: Index, say: Say) -> None:
        self._index, self._say = index, say
        self._searches: deque[Numbered] = deque()
        self._reads: deque[Numbered] = deque()
        self._writes: deque[Numbered] = deque()
        self._steps: Generator[None, None, Any] | None = None
        self._searched_s, self._write_at_s = 0.0, 0.0

    def run(self, inbox: Inbox) -> None:
        """Until the other side has gone. Reads first, then a step of a write; housekeeping between writes."""
        while not inbox.ended:
            for number, request in inbox.take(self._wait_s()):
                self._queue_of(request).append((number, request))
            if self._searches:
                self._search()
            elif self._reads:
                self._call(*self._reads.popleft())
            else:
                if self._steps is None:
                    self._index.keep_house()
                if time.monotonic() >= self._write_at_s:
                    self._write()

    def _wait_s(self) -> float:
        if self._searches or self._reads:
            return 0.0
        if self._writes:
            return max(0.0, self._write_at_s - time.monotonic()) if self._index.writable else COPYING_S
        return HOUSEKEEPING_S

    def _queue_of(self, request: Request) -> deque[Numbered]:
        if request.method == "search":
            return self._searches
        return self._reads if request.method in _READS else self._writes

    def _write(self) -> None:
        """A step of the next write, unless the index is being copied; then a pause, if it is searched."""
        if not self._writes or not self._index.writable:
            return
        started_s = time.monotonic()
        self._step()
        ended_s = time.monotonic()
        if ended_s < self._searched_s + SEARCHED_S:
            self._write_at_s = ended_s + (ended_s - started_s) * (1 / WRITING_SHARE - 1)

    def _step(self) -> None:
        number, request = self._writes[0]
        try:
            if self._steps is None:
                self._steps = _started(getattr(self._index, request.method), request.arguments)
            next(self._steps)
            return
        except StopIteration as end:
            reply = Reply(end.value)
        except Exception as error:
            reply = Reply(error=_as_domain_error(error))
        self._steps = None
        self._writes.popleft()
        self._say(number, reply)

    def _search(self) -> None:
        """As many as go together."""
        self._searched_s = time.monotonic()
        batch = [self._searches.popleft() for _ in range(min(len(self._searches), MAX_SEARCHES_AT_ONCE))]
        queries: list[StoreQuery] = [request.arguments[0] for _, request in batch]
        try:
            answers = self._index.search(queries)
        except Exception as error:
            if len(batch) == 1:
                self._say(batch[0][0], Reply(error=_as_domain_error(error)))
                return
            for number, request in batch:  # one bad query must not fail the others
                self._call(number, Request("search", ([request.arguments[0]],)), only=True)
            return
        for (number, _), found in zip(batch, answers, strict=True):
            self._say(number, Reply(found))

    def _call(self, number: int, request: Request, *, only: bool = False) -> None:
        try:
            value = getattr(self._index, request.method)(*request.arguments)
            self._say(number, Reply(value[0] if only else value))
        except Exception as error:
            self._say(number, Reply(error=_as_domain_error(error)))


def _started(method: Callable[..., Any], arguments: tuple[Any, ...]) -> Generator[None, None, Any]:
    """A write; one that goes in steps gives None after each."""
    value = method(*arguments)
    return (yield from value) if isinstance(value, Generator) else value


def _as_domain_error(error: Exception) -> MurpheyError:
    if isinstance(error, MurpheyError):
        return error
    if _LOCKED in str(error):
        return Unavailable(
            "Another process still has the store open, such as one that is ending. Try again in a moment."
        )
    log.error("store_failed", error=str(error)[:500], traceback=traceback.format_exc())
    return Internal(f"The store could not do it: {str(error)[:200]}")


def _open(folder: Path, limits: Limits, dimensions: int, say: Say) -> Index:
    def announce(name: str) -> None:
        say(UNASKED, Rebuilt(name))

    if dimensions:
        return Index.create(folder, dimensions, limits, announce)
    return Index.open(folder, limits, announce)


def _succeed(folder: Path, name: str, limits: Limits, inbox: Inbox, say: Say) -> Index | None:
    """The index, once its process has retired; None when the other side has gone."""
    successor = Successor(folder, name)  # in this thread: those that search inherit its priority
    catching_up = threading.Thread(target=_catch_up, args=(successor, inbox))
    catching_up.start()
    catching_up.join()
    say(UNASKED, Reply())
    while not inbox.ended:
        for number, _ in inbox.take(HOUSEKEEPING_S):  # there is but one request: to take over
            index = successor.take_over(limits, lambda name: say(UNASKED, Rebuilt(name)))
            say(number, Reply())
            return index
    return None


def _catch_up(successor: Successor, inbox: Inbox) -> None:
    """At low priority, which a thread that has it never loses."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    for _ in successor.catch_up():
        if inbox.gone():
            return


def main() -> None:
    """Serves the index in the folder named by the first argument until the parent closes its end, however it died."""
    logs.configure("retriever")
    folder, limits, dimensions = Path(sys.argv[1]), Limits(int(sys.argv[2])), int(sys.argv[3])
    inbox, sink = Inbox(sys.stdin.fileno()), sys.stdout.buffer

    def say(number: int, message: object) -> None:
        write_frame(sink, number, message)

    try:
        if len(sys.argv) > 4:
            index = _succeed(folder, sys.argv[4], limits, inbox, say)
        else:
            index = _open(folder, limits, dimensions, say)
            say(UNASKED, Reply())
        if index is not None:
            Engine(index, say).run(inbox)
            index.close()
    except BrokenPipeError:
        log.warning("retriever_gone")
    except Exception as error:
        say(UNASKED, Reply(error=_as_domain_error(error)))


if __name__ == "__main__":
    main()
