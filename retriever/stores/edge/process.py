"""The retriever's side of one engine's process: starts it, sends requests, hands back answers, and says when it has ended."""

import asyncio
import itertools
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from mesh import logs, threads
from mesh.errors import Unavailable
from retriever.stores.edge.wire import HEAD, UNASKED, Rebuilt, Reply

log = logs.get(__name__)

STOP_TIMEOUT_S = 20.0
STOPPED = "The store stopped while it worked on this. Try again in a moment."


class EngineProcess:
    """A child process that answers requests until it ends; those that are open then fail as Unavailable."""

    def __init__(self, process: asyncio.subprocess.Process, on_rebuilt: Callable[["EngineProcess", str], None]) -> None:
        self._process, self._on_rebuilt = process, on_rebuilt
        self._numbers = itertools.count(UNASKED + 1)
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._answered = asyncio.Event()
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.create_task(self._read())
        """Done when the process has ended."""

    @classmethod
    async def start(
        cls, arguments: Sequence[str], lock: int, on_rebuilt: Callable[["EngineProcess", str], None]
    ) -> "EngineProcess":
        """Returns when the child is ready; raises what it could not do. It holds the lock as long as it lives."""
        environment = dict(os.environ)
        threads.limit(environment)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "retriever.stores.edge.engine", *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment, pass_fds=[lock],
            start_new_session=True,  # Ctrl-C is for the server, which then lets its child finish
        )  # fmt: skip
        started = cls(process, on_rebuilt)
        try:
            await started._started
        except BaseException:
            await asyncio.shield(started.kill())
            raise
        return started

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, body: bytes) -> asyncio.Future[Any]:
        """The answer to come; at once, so that callers know in which order requests go. Unavailable when it has ended."""
        stdin = self._process.stdin
        if stdin is None or stdin.is_closing() or self.ended.done():
            raise Unavailable(STOPPED)
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._open[number] = answer
        answer.add_done_callback(lambda _: self._settled(number))
        stdin.write(HEAD.pack(len(body), number))
        stdin.write(body)
        return answer

    async def drained(self) -> None:
        """Waits until nothing is open."""
        while self._open:
            self._answered.clear()
            await self._answered.wait()

    async def close(self) -> None:
        """Lets the child write everything down and end."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await asyncio.shield(self.ended)
        except TimeoutError:
            log.error("engine_killed", reason=f"it did not end within {STOP_TIMEOUT_S:.0f} s")
            await self.kill()

    async def kill(self) -> None:
        """Returns when it has ended."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await asyncio.shield(self.ended)

    async def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None  # noqa: S101 - it was started with a pipe
        with suppress(asyncio.IncompleteReadError, ConnectionResetError):
            while True:
                length, number = HEAD.unpack(await stream.readexactly(HEAD.size))
                self._take(number, pickle.loads(await stream.readexactly(length)))  # noqa: S301 - from our own child
        await self._process.wait()
        for answer in [*self._open.values(), self._started]:
            if not answer.done():
                answer.set_exception(Unavailable(STOPPED))
        if self._started.cancelled() or self._started.exception() is not None:
            log.error("engine_ended_at_start", exit_code=self._process.returncode)

    def _take(self, number: int, message: Reply | Rebuilt) -> None:
        if isinstance(message, Rebuilt):
            self._on_rebuilt(self, message.name)
            return
        answer = self._started if number == UNASKED else self._open.get(number)
        if answer is None or answer.done():
            return  # the caller has gone
        if message.error is not None:
            answer.set_exception(message.error)
        else:
            answer.set_result(message.value)

    def _settled(self, number: int) -> None:
        self._open.pop(number, None)
        self._answered.set()
