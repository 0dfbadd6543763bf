"""The retriever's side of the engine's process: starts it, sends requests, hands back answers, restarts it when it dies."""

import asyncio
import itertools
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mesh import logs, threads
from mesh.errors import Overloaded, Unavailable
from retriever.stores.edge.wire import FRAME, Reply, Request

log = logs.get(__name__)

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
RESTART_DELAY_S = 0.5
MAX_WAITING_OTHERS = 64
"""Updates and counts that may wait; a batch of chunks weighs megabytes."""


class EngineProcess:
    """A child process that answers requests; one that dies is started again, and its open requests fail as Unavailable."""

    def __init__(self, root: Path, max_waiting_searches: int, optimize_after_chunks: int) -> None:
        self._max_searches = max_waiting_searches
        self._arguments = [str(root), str(optimize_after_chunks)]
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._searches = 0
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Returns when the child answers."""
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep())
        async with asyncio.timeout(START_TIMEOUT_S):
            await self.call("", "ping")

    async def search(self, index: str, *arguments: object) -> Any:
        """Like `call`, with a bound of its own."""
        if self._searches >= self._max_searches:
            raise Overloaded(f"{self._searches} searches wait for the store already. Try again in a moment.")
        self._searches += 1
        try:
            return await self._request(index, "search", arguments)
        finally:
            self._searches -= 1

    async def call(self, index: str, method: str, *arguments: object) -> Any:
        """What the method returned there, or raises what it raised."""
        if len(self._waiting) - self._searches >= MAX_WAITING_OTHERS:
            raise Overloaded(f"{MAX_WAITING_OTHERS} writes wait for the store already. Try again in a moment.")
        return await self._request(index, method, arguments)

    async def close(self) -> None:
        """Lets the child finish what it was given, write it down and end."""
        self._closing = True
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            log.error("engine_killed", reason=f"it did not end within {STOP_TIMEOUT_S:.0f} s")
            process.kill()
            await process.wait()
        if self._keeper:
            await self._keeper

    async def _request(self, index: str, method: str, arguments: tuple[object, ...]) -> Any:
        process = self._process
        if process is None or process.stdin is None or process.returncode is not None or self._closing:
            raise Unavailable("The store is starting again. Try again in a moment.")
        request = Request(next(self._ids), index, method, arguments)
        answer = asyncio.get_running_loop().create_future()
        self._waiting[request.id] = answer
        try:
            body = await _pickled(request)
            process.stdin.write(FRAME.pack(len(body)) + body)
            await process.stdin.drain()
            return await answer
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Unavailable("The store stopped. Try again in a moment.") from error
        finally:
            self._waiting.pop(request.id, None)

    async def _spawn(self) -> None:
        environment = dict(os.environ)
        threads.limit(environment)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "retriever.stores.edge.engine", *self._arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment,
            start_new_session=True,  # Ctrl-C is for the server, which then lets its child finish
        )  # fmt: skip

    async def _keep(self) -> None:
        """Reads answers; starts the child again when it ends unasked."""
        while True:
            assert self._process is not None  # noqa: S101 - start() made it
            await self._read(self._process)
            code = await self._process.wait()
            self._fail_waiting()
            if self._closing:
                return
            log.error("engine_died", exit_code=code)
            await asyncio.sleep(RESTART_DELAY_S)
            if self._closing:
                return
            await self._spawn()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        stream = process.stdout
        assert stream is not None  # noqa: S101 - it was started with a pipe
        try:
            while True:
                (length,) = FRAME.unpack(await stream.readexactly(FRAME.size))
                reply: Reply = pickle.loads(await stream.readexactly(length))  # noqa: S301 - from our own child
                self._settle(reply)
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return

    def _settle(self, reply: Reply) -> None:
        answer = self._waiting.get(reply.id)
        if answer is None or answer.done():
            return  # the caller has gone
        if reply.error is not None:
            answer.set_exception(reply.error)
        else:
            answer.set_result(reply.value)

    def _fail_waiting(self) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Unavailable("The store stopped while it worked on this. Try again in a moment."))


LARGE_ARGUMENTS = 32


async def _pickled(request: Request) -> bytes:
    """A large batch is pickled outside the event loop."""
    dump: Callable[[], bytes] = lambda: pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL)  # noqa: E731
    if request.arguments and isinstance(request.arguments[0], list) and len(request.arguments[0]) > LARGE_ARGUMENTS:
        return await asyncio.to_thread(dump)
    return dump()
