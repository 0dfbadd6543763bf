"""A cross-encoder in a child process: torch, its memory and its hold of Python's lock stay out of the server.

The child is started again when it has ended; what was under way then fails as Unavailable.
"""

import asyncio
import os
import pickle
import sys
from collections.abc import Sequence
from contextlib import suppress

from mesh import logs, threads
from mesh.errors import Unavailable
from retriever.reranking import Blend
from retriever.stores.edge.wire import HEAD, Reply, dumps

log = logs.get(__name__)

SLICE_TEXTS = 16
"""In one go: a call whose caller has left ends after the one under way, and calls take turns between them."""
STOP_TIMEOUT_S = 10.0
_STOPPED = "The reranker stopped while it worked on this. Try again in a moment."


class CrossEncoderProcess:
    """Any checkpoint that sentence-transformers' CrossEncoder loads: a folder, or a hub id."""

    blend = Blend()

    def __init__(self, name: str, model: str, device: str = "") -> None:
        self.name, self.version = name, ""
        self._model, self._device = model, device
        self._process: asyncio.subprocess.Process | None = None
        self._alive = False
        self._turn, self._asking = asyncio.Lock(), asyncio.Lock()

    @classmethod
    async def open(cls, name: str, model: str, device: str = "") -> "CrossEncoderProcess":
        """Returns when the model is loaded. FailedPrecondition when it cannot be."""
        opened = cls(name, model, device)
        try:
            await opened._start()
        except BaseException:
            await opened.close()
            raise
        return opened

    @property
    def pid(self) -> int:
        """The child's process id; 0 where there is none."""
        return self._process.pid if self._process else 0

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """Logits, one for each text. Overloaded when the device has no memory left."""
        found: list[float] = []
        for start in range(0, len(texts), SLICE_TEXTS):
            async with self._turn:
                asked = asyncio.create_task(self._ask(question, list(texts[start : start + SLICE_TEXTS])))
                asked.add_done_callback(_seen)
                found += await asyncio.shield(asked)
        return found

    async def close(self) -> None:
        """The child ends when its input does."""
        process, self._process, self._alive = self._process, None, False
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _ask(self, question: str, texts: list[str]) -> list[float]:
        """Goes on when its caller has left, so that the answer is not taken for another one's."""
        async with self._asking:
            process = self._process if self._alive else await self._start()
            assert process is not None and process.stdin is not None  # noqa: S101, PT018 - it was started with a pipe
            try:
                body = dumps((question, texts))
                process.stdin.write(HEAD.pack(len(body), 0) + body)
                await process.stdin.drain()
                return (await _reply(process)).value
            except (BrokenPipeError, ConnectionResetError, asyncio.IncompleteReadError) as error:
                self._alive = False
                log.error("reranker_ended", reranker=self.name, exit_code=await process.wait())
                raise Unavailable(_STOPPED) from error

    async def _start(self) -> asyncio.subprocess.Process:
        environment = dict(os.environ)
        threads.limit(environment)
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "retriever.rerankers.worker", self._model, self._device,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment,
            start_new_session=True,  # Ctrl-C is for the server, which then lets its child finish
        )  # fmt: skip
        try:
            self.version = (await _reply(process)).value
        except asyncio.IncompleteReadError as error:
            raise Unavailable(f"The reranker {self.name} ended while it was loaded. Try again in a moment.") from error
        self._alive = True
        return process


def _seen(asked: "asyncio.Task[list[float]]") -> None:
    """Where its caller has left, nobody else asks why it failed."""
    if not asked.cancelled():
        asked.exception()


async def _reply(process: asyncio.subprocess.Process) -> Reply:
    stream = process.stdout
    assert stream is not None  # noqa: S101 - it was started with a pipe
    length, _ = HEAD.unpack(await stream.readexactly(HEAD.size))
    reply: Reply = pickle.loads(await stream.readexactly(length))  # noqa: S301 - from our own child
    if reply.error is not None:
        raise reply.error
    return reply
