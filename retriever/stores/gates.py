"""What passes to an index: its calls are counted, the documents that writes change are noted while someone copies the index,
and writes can be held back for the moment in which another store takes it over.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from retriever.whole_files import write_whole


class Changes:
    """Documents that were written to since they were copied, in a file too, so that a restart loses none of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        known = (
            [json.loads(line) for line in path.read_text().splitlines() if line.endswith('"')] if path.exists() else []
        )
        self._documents: dict[str, int] = dict.fromkeys(known, 0)
        self._times = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __len__(self) -> int:
        return len(self._documents)

    def note(self, documents: Iterable[str]) -> None:
        """They change. What is in the file stays, should this process be killed."""
        self._times += 1
        new = [document for document in documents if document not in self._documents]
        if new:
            os.write(self._file, "".join(f"\n{json.dumps(document)}" for document in new).encode())
        self._documents |= dict.fromkeys(documents, self._times)

    def taken(self) -> dict[str, int]:
        """All of them, to be copied, and then to be settled."""
        return dict(self._documents)

    def settle(self, taken: dict[str, int]) -> None:
        """They have been copied; those that were noted again meanwhile stay."""
        for document, times in taken.items():
            if self._documents.get(document) == times:
                del self._documents[document]
        write_whole(self._path, "".join(f"\n{json.dumps(document)}" for document in self._documents))
        os.close(self._file)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)

    def close(self) -> None:
        """Lets go of the file."""
        os.close(self._file)


class Gate:
    """Of one index."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._running: set[asyncio.Future[None]] = set()
        self.changes: Changes | None = None
        """Where the documents of writes are noted."""

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around a read."""
        done = asyncio.get_running_loop().create_future()
        self._running.add(done)
        try:
            yield
        finally:
            self._running.discard(done)
            done.set_result(None)

    @asynccontextmanager
    async def writing(self, documents: Iterable[str]) -> AsyncIterator[None]:
        """Around a write that changes these documents; waits while writes are held back. They are noted before, for a crash,
        and after, for a copy that was made meanwhile."""
        while not self._open.is_set():
            await self._open.wait()
        with self.reading():
            changes = self.changes
            if changes is None:
                yield
                return
            changes.note(documents)
            try:
                yield
            finally:
                changes.note(documents)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """No write is under way while inside; those that come wait."""
        self._open.clear()
        try:
            await self.older_calls()
            yield
        finally:
            self._open.set()

    async def older_calls(self) -> None:
        """Waits for the calls that have begun before."""
        if self._running:
            await asyncio.wait(list(self._running))
