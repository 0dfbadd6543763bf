"""Keeps the processes of one index: starts one when it is needed and again when it dies, and hands over to a successor.

At any time one process has the index, and `current` in its folder names that one's shard. Where anything goes wrong
between two processes, both are ended and a new one begins from `current`: each shard that it may name is complete.
"""

import asyncio
import shutil
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mesh import logs
from mesh.errors import MurpheyError, NotFound, Unavailable
from retriever.stores.edge import pointer
from retriever.stores.edge.process import EngineProcess
from retriever.stores.edge.wire import Request, dumps

log = logs.get(__name__)

RESTART_DELAY_S = 0.5
LARGE_ARGUMENT = 32
"""Rows or more: pickled outside the event loop."""


class IndexKeeper:
    """One index, by its folder. `lock` is the descriptor of the store's lock, which the processes inherit."""

    def __init__(self, folder: Path, optimize_after_chunks: int, lock: int) -> None:
        self._folder, self._limits, self._lock = folder, str(optimize_after_chunks), lock
        self._process: EngineProcess | None = None
        self._starting = asyncio.Lock()
        self._restart_at = 0.0
        self._writable = asyncio.Event()
        self._writable.set()
        self._handover: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.used_at = time.monotonic()

    @property
    def exists(self) -> bool:
        """Whether the index is there."""
        return pointer.exists(self._folder)

    @property
    def pid(self) -> int | None:
        """The id of the process that has the index, None while there is none."""
        return self._process.pid if self._process is not None else None

    async def create(self, dimensions: int) -> None:
        """Makes the index, or opens the one that is there."""
        async with self._starting:
            if self._process is None:
                await self._start(dimensions)

    async def read(self, method: str, *arguments: object) -> Any:
        """What the method returned there, or raises what it raised."""
        body = await _pickled(method, arguments)
        return await (await self._usable()).send(body)

    async def write(self, method: str, *arguments: object) -> Any:
        """Like `read`, but waits while the index changes hands."""
        body = await _pickled(method, arguments)
        process = await self._usable()
        while not self._writable.is_set() or process is not self._process:
            await self._writable.wait()
            process = await self._usable()
        return await process.send(body)  # nothing may come between the check and this

    async def close_unused(self) -> None:
        """Ends the process, if it has nothing to do; the next call starts one."""
        async with self._starting:
            process, used_at = self._process, self.used_at
            if process is None or self._handover is not None or await process.send(dumps(Request("busy", ()))):
                return
            if self.used_at == used_at:
                self._process = None
                await process.drained()
                await process.close()

    async def close(self) -> None:
        """Lets the processes write everything down and end."""
        self._closed = True
        if self._handover is not None:
            self._handover.cancel()
            await asyncio.gather(self._handover, return_exceptions=True)
        async with self._starting:
            process, self._process = self._process, None
            if process is not None:
                await process.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def drop(self) -> None:
        """Deletes the index; its pointer first, so that a crash leaves no half of it in use."""
        pointer.remove(self._folder)
        await self.close()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _usable(self) -> EngineProcess:
        self.used_at = time.monotonic()
        if self._process is not None:
            return self._process
        if self._closed or time.monotonic() < self._restart_at:
            raise Unavailable("The store is starting again. Try again in a moment.")
        async with self._starting:
            if self._process is None:
                if not self.exists:
                    raise NotFound(f"There is no index {self._folder.name!r}.")
                await self._start()
            assert self._process is not None  # noqa: S101 - just started
            return self._process

    async def _start(self, dimensions: int = 0) -> None:
        if self._closed:
            raise Unavailable("The store is closing.")
        try:
            process = await self._spawn(str(dimensions))
        except MurpheyError:
            self._restart_at = time.monotonic() + RESTART_DELAY_S
            raise
        self._process = process
        self._in_background(self._restart_when_ended(process))

    async def _spawn(self, *arguments: str) -> EngineProcess:
        return await EngineProcess.start(
            [str(self._folder), self._limits, *arguments],
            self._lock,
            lambda process, name: self._rebuilt(process, name),
        )

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _restart_when_ended(self, process: EngineProcess) -> None:
        """A process that ends while it has the index died: closing takes the index from it first."""
        await asyncio.shield(process.ended)
        if process is not self._process:
            return
        self._restart_at = time.monotonic() + RESTART_DELAY_S
        self._process = None
        log.error("engine_died", index=self._folder.name)
        if self._handover is not None:
            self._handover.cancel()
        await asyncio.sleep(RESTART_DELAY_S)
        if not self._closed:
            with suppress(MurpheyError):
                await self._usable()

    def _rebuilt(self, process: EngineProcess, name: str) -> None:
        self._handover = asyncio.create_task(self._hand_over(process, name))
        self._handover.add_done_callback(self._handed_over)

    def _handed_over(self, _: asyncio.Task[None]) -> None:
        self._handover = None

    async def _hand_over(self, old: EngineProcess, name: str) -> None:
        """Searches go on in the old process until the new one has the index."""
        try:
            new = await self._spawn("0", name)
        except MurpheyError as error:
            log.error("successor_failed", index=self._folder.name, error=error.message)
            with suppress(MurpheyError):
                await old.send(dumps(Request("abandon", ())))
            return
        self._writable.clear()
        try:
            old_name = await self._switch(old, new)
        except BaseException as error:
            log.error("handover_failed", index=self._folder.name, error=str(error))
            await asyncio.shield(self._begin_again(old, new))
            raise
        finally:
            self._writable.set()
        self._in_background(self._let_go(old, self._folder / old_name))

    async def _switch(self, old: EngineProcess, new: EngineProcess) -> str:
        """Returns the name of the old shard."""
        old_name = await old.send(dumps(Request("retire", ())))
        await new.send(dumps(Request("take_over", ())))
        self._process = new
        self._in_background(self._restart_when_ended(new))
        return old_name

    async def _begin_again(self, old: EngineProcess, new: EngineProcess) -> None:
        """Either may have the index now; `current` says which, when both have ended."""
        async with self._starting:
            self._process = None
            await asyncio.gather(old.kill(), new.kill())

    async def _let_go(self, old: EngineProcess, shard: Path) -> None:
        await old.drained()
        await old.close()
        await asyncio.to_thread(shutil.rmtree, shard, ignore_errors=True)


async def _pickled(method: str, arguments: tuple[object, ...]) -> bytes:
    request = Request(method, arguments)
    first = arguments[0] if arguments else None
    if isinstance(first, Sequence) and len(first) > LARGE_ARGUMENT:
        return await asyncio.to_thread(dumps, request)
    return dumps(request)
