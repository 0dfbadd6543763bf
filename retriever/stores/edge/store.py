"""The embedded store, as the retriever sees it."""

import asyncio
import fcntl
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from mesh.errors import FailedPrecondition, MurpheyError, Overloaded
from retriever.chunks import Chunk, Description, DocumentVersion
from retriever.filters import Kind
from retriever.stores.base import Counts, Hit, IndexedChunk, Page, Selection, StoreQuery, Window
from retriever.stores.edge.keeper import IndexKeeper
from retriever.stores.edge.operations import Row, Upsert, from_row, to_row
from retriever.stores.edge.shard import FoundPoint
from retriever.stores.hits import arrange, merged
from retriever.stores.payload import to_chunk

MAX_WAITING_WRITES = 64
"""Updates that may wait; a batch of chunks weighs megabytes."""
LARGE_BATCH = 32
OPEN_AT_START = 4
"""Indexes that are opened before they are asked for."""
UNUSED_S, LOOK_EVERY_S = 600.0, 60.0
"""An index that nobody has used for so long costs no process, 35 MB, any more."""
LOCKED_WITHIN_S, LOCK_RETRY_S = 20.0, 0.1
"""How long the processes of a retriever that was killed may need to end."""


class EdgeStore:
    """Indexes in a folder of this machine, each in a process of its own. One store at a time has the folder."""

    def __init__(self, root: Path, lock: int, max_waiting_searches: int, optimize_after_chunks: int) -> None:
        self._root, self._lock, self._optimize_after = root, lock, optimize_after_chunks
        self._max_searches = max_waiting_searches
        self._searches = self._writes = 0
        self._closed = False
        self._keepers: dict[str, IndexKeeper] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._dropping: dict[str, asyncio.Task[None]] = {}
        self._closing_unused = asyncio.create_task(self._close_unused())

    @classmethod
    async def open(
        cls,
        root: Path,
        *,
        max_waiting_searches: int = 1_024,
        optimize_after_chunks: int = 8_000,
        locked_within_s: float = LOCKED_WITHIN_S,
    ) -> "EdgeStore":
        """FailedPrecondition when another store has the folder and keeps it."""
        return cls(root, await _locked(root, locked_within_s), max_waiting_searches, optimize_after_chunks)

    def pid(self, index: str) -> int | None:
        """The process that has the index, None while there is none."""
        return self._keeper(index).pid

    async def create_index(self, index: str, dimensions: int) -> None:
        if dropping := self._dropping.get(index):  # one of the same name: its files go first
            await asyncio.wait([dropping])
        keeper = self._keeper(index)
        if not keeper.exists:
            await keeper.create(dimensions)
        elif sum(keeper.pid is not None for keeper in self._keepers.values()) + len(self._opening) < OPEN_AT_START:
            task = asyncio.create_task(keeper.create(dimensions))
            self._opening.add(task)
            task.add_done_callback(self._opened)

    async def drop_index(self, index: str) -> None:
        if index not in self._dropping:
            self._dropping[index] = asyncio.create_task(self._drop(index))
        await asyncio.shield(self._dropping[index])

    async def _drop(self, index: str) -> None:
        try:
            await self._keeper(index).drop()
        finally:
            self._keepers.pop(index, None)
            del self._dropping[index]

    async def add_fields(self, index: str, fields: Sequence[tuple[str, Kind]]) -> None:
        await self._write(index, "add_fields", list(fields))

    async def upsert(self, index: str, chunks: Sequence[IndexedChunk], *, staged: bool) -> None:
        async with self._admitted():
            large = len(chunks) > LARGE_BATCH
            upsert = await asyncio.to_thread(_upsert, chunks) if large else _upsert(chunks)
            await self._keeper(index).write("upsert", upsert, staged)

    async def publish(self, index: str, versions: Sequence[DocumentVersion]) -> int:
        return await self._write(index, "publish", list(versions))

    async def describe(self, index: str, descriptions: Sequence[Description]) -> int:
        return await self._write(index, "describe", list(descriptions))

    async def delete(self, index: str, selection: Selection) -> int:
        return await self._write(index, "delete", selection)

    async def search(self, index: str, query: StoreQuery) -> list[Hit]:
        if self._searches >= self._max_searches:
            raise Overloaded(f"{self._searches} searches wait for the store already. Try again in a moment.")
        self._searches += 1
        try:
            found: list[FoundPoint] = await self._keeper(index).read("search", query)
        finally:
            self._searches -= 1
        return [Hit(to_chunk(point_id, payload), score, cosine) for point_id, score, cosine, payload in found]

    async def neighbors(self, index: str, windows: Sequence[Window]) -> Mapping[Window, list[Chunk]]:
        if not windows:
            return {}
        found = await self._keeper(index).read("windows", list(windows))
        return arrange(windows, [to_chunk(point_id, payload) for point_id, payload in found])

    async def vectors(self, index: str, ids: Sequence[str]) -> Mapping[str, tuple[Chunk, Sequence[float]]]:
        found = await self._write(index, "vectors", list(ids))  # after the writes before it, as those who ask expect
        return {point_id: (to_chunk(point_id, payload), vector) for point_id, payload, vector in found}

    async def stored(self, index: str) -> Mapping[DocumentVersion, Counts]:
        live: Counter[DocumentVersion] = Counter()
        page, after = await self._write(index, "versions", None)
        live.update(page)
        while after is not None:  # page by page, so that searches come in between
            page, after = await self._write(index, "versions", after)
            live.update(page)
        return merged(live, await self._write(index, "staged_versions"))

    async def count(self, index: str) -> Counts:
        return await self._keeper(index).read("count")

    async def page(self, index: str, *, staged: bool, after: str = "", documents: Sequence[str] = ()) -> Page:
        found: tuple[list[Row], str] = await self._write(index, "page", staged, after, list(documents))
        return Page([from_row(row) for row in found[0]], found[1])

    async def close(self) -> None:
        self._closing_unused.cancel()
        for task in self._opening:
            task.cancel()
        keepers = [keeper.close() for keeper in self._keepers.values()]
        await asyncio.gather(*self._opening, *self._dropping.values(), *keepers, return_exceptions=True)
        if not self._closed:
            os.close(self._lock)
        self._closed = True

    def _keeper(self, index: str) -> IndexKeeper:
        if index not in self._keepers:
            self._keepers[index] = IndexKeeper(self._root / index, self._optimize_after, self._lock)
        return self._keepers[index]

    async def _write(self, index: str, method: str, *arguments: object) -> Any:
        async with self._admitted():
            return await self._keeper(index).write(method, *arguments)

    @asynccontextmanager
    async def _admitted(self) -> AsyncIterator[None]:
        if self._writes >= MAX_WAITING_WRITES:
            raise Overloaded(f"{MAX_WAITING_WRITES} writes wait for the store already. Try again in a moment.")
        self._writes += 1
        try:
            yield
        finally:
            self._writes -= 1

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if not task.cancelled():
            task.exception()  # whoever uses the index is told

    async def _close_unused(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for keeper in list(self._keepers.values()):
                if keeper.pid is not None and time.monotonic() - keeper.used_at > UNUSED_S:
                    with suppress(MurpheyError):
                        await keeper.close_unused()


async def _locked(root: Path, within_s: float) -> int:
    """The descriptor of the lock, which the processes of the indexes inherit: it is free when all of them have ended."""
    await asyncio.to_thread(root.mkdir, parents=True, exist_ok=True)
    lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                os.close(lock)
                message = f"Another retriever uses the folder {root}. Stop it first, or choose another data folder."
                raise FailedPrecondition(message) from None
        await asyncio.sleep(LOCK_RETRY_S)


def _upsert(chunks: Sequence[IndexedChunk]) -> Upsert:
    return Upsert.of([*map(to_row, chunks)])
