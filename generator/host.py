"""Keeps an engine running in a process of its own, and carries requests to it and their text back.

The event loop is woken once a step, whatever the number of requests, and each request's reader once a step at most: what
has come since it last looked is one event. When the process dies its running requests end with Unavailable and it is
started again, later each time.
"""

import asyncio
import contextlib
import itertools
import os
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace

from generator import measures
from generator.engines.base import EngineInfo, EngineLaunch, EngineRequest, EngineState
from generator.wire import Add, Cancel, FromWorker, Load, Progress, Ready, Stepped, ToWorker, Unpacker, pack
from mesh import logs
from mesh.errors import InvalidInput, MurpheyError, Unavailable

log = logs.get(__name__)

_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.2, 30.0
_MOST_DOUBLINGS = 16
"""Twice as long each time is more than a float can hold after some hours."""
_FAILURES_UNTIL_FAILED = 3
_STOP_GRACE_S = 2.0


class _Mailbox:
    """What has come for one request and was not read yet."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._error: MurpheyError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def put(self, progress: Progress) -> None:
        """Adds to what is there, so that a slow reader gets more text at a time, not more events."""
        before = self._progress
        if before is not None:
            progress = progress._replace(text=before.text + progress.text, tokens=before.tokens + progress.tokens)
        self._progress = progress
        self._wake()

    def fail(self, error: MurpheyError) -> None:
        """Ends the request with an error, after the text that has come."""
        self._error = error
        self._wake()

    async def get(self) -> Progress:
        """Waits for news."""
        while self._progress is None:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        progress, self._progress = self._progress, None
        return progress

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Link(asyncio.Protocol):
    """The server's end of the socket pair."""

    def __init__(self, host: "EngineHost") -> None:
        self._host = host
        self._unpacker = Unpacker()
        self._transport: asyncio.Transport | None = None
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # pyright: ignore[reportAttributeAccessIssue] - a stream's transport

    def data_received(self, data: bytes) -> None:
        for message in self._unpacker.feed(data):
            self._host._received(message)  # pyright: ignore[reportArgumentType] - only the worker writes here

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    def send(self, message: ToWorker) -> None:
        if self._transport is not None:
            self._transport.write(pack(message))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


@dataclass(frozen=True)
class _Process:
    """A running worker."""

    process: asyncio.subprocess.Process
    link: _Link


class EngineHost:
    """One engine. `async with host:` loads it and raises what its loading raised.

    `tell_ready` is called with whether the engine can be used, each time that its state changes.
    """

    def __init__(self, launch: EngineLaunch, tell_ready: Callable[[bool], None] = lambda ready: None) -> None:
        self._launch = launch
        self._tell_ready = tell_ready
        self._ids = itertools.count(1)
        self._mailboxes: dict[int, _Mailbox] = {}
        self._left: dict[int, float] = {}
        """Requests that were left, until the engine says that their slots are free: when that was."""
        self._worker: _Process | None = None
        self._settled = asyncio.Event()
        self._supervision: asyncio.Task[None] | None = None
        self._failures = 0
        self._said = ""  # by the worker, of why it ends
        self.info: EngineInfo | None = None
        self.state = EngineState.LOADING
        self.state_message = ""

    async def __aenter__(self) -> "EngineHost":
        self._supervision = asyncio.create_task(self._supervise(), name="engine")
        try:
            await self.settled()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._supervision is not None:
            self._supervision.cancel()
            await asyncio.wait({self._supervision})

    async def settled(self) -> EngineInfo:
        """Waits until the engine is ready. Unavailable with the reason when it does not come up."""
        await self._settled.wait()
        if self.state is EngineState.FAILED or self.info is None:
            raise Unavailable(f"The engine does not come up: {self.state_message}")
        return self.info

    @property
    def pid(self) -> int | None:
        """The engine's process, while there is one."""
        return None if self._worker is None else self._worker.process.pid

    async def run(self, request: EngineRequest) -> AsyncGenerator[Progress]:
        """Runs a request; the last progress has `finish`. Closing the iterator early frees the engine's slot.

        The request's id is set here. Unavailable when the engine is not up or dies; InvalidInput when it refuses.
        """
        if self.state is not EngineState.READY or self._worker is None:
            raise Unavailable(f"The engine is {self.state.value}. Try again in a moment.", retry_after_s=1.0)
        link, request = self._worker.link, replace(request, id=next(self._ids))
        mailbox = self._mailboxes[request.id] = _Mailbox()
        link.send(Add(request))
        finished = False
        try:
            while not finished:
                progress = await mailbox.get()
                finished = progress.finish is not None
                yield progress
        finally:
            if self._mailboxes.pop(request.id, None) is not None and not finished:
                self._left[request.id] = time.perf_counter()
                link.send(Cancel(request.id))

    def _received(self, message: FromWorker) -> None:
        if isinstance(message, Stepped):
            for progress in message.progress:
                if mailbox := self._mailboxes.get(progress.request_id):
                    mailbox.put(progress)
            for refused in message.refused:
                if mailbox := self._mailboxes.pop(refused.request_id, None):
                    mailbox.fail(InvalidInput(refused.message, field=refused.field))
            for request_id in message.freed:
                if (left := self._left.pop(request_id, None)) is not None:
                    measures.freed(time.perf_counter() - left)
        elif isinstance(message, Ready):
            self.info, self._failures = message.info, 0
            self._become(EngineState.READY)
        else:
            self._said = message.message

    async def _supervise(self) -> None:
        while True:
            self._said = ""
            code = await self._run_worker()
            self._failures += 1
            reason = self._said or f"its process ended with exit status {code}"
            log.error("engine_ended", reason=reason, failures=self._failures, running=len(self._mailboxes))
            self._end_requests(reason)
            first_load = self.info is None
            failed = first_load or self._failures >= _FAILURES_UNTIL_FAILED
            self._become(EngineState.FAILED if failed else EngineState.LOADING, reason)
            if first_load:
                return
            await asyncio.sleep(backoff_s(self._failures))

    async def _run_worker(self) -> int | None:
        """Starts a worker and waits for its end; its exit status, None of one that cannot be started."""
        try:
            worker = self._worker = await self._start_worker()
        except OSError as error:  # no memory, no descriptors, no such program
            self._said = f"its process cannot be started: {error}"
            return None
        try:
            worker.link.send(Load(self._launch, sys.path))
            await worker.link.closed
            return await worker.process.wait()
        finally:
            self._worker = None
            worker.link.close()
            await asyncio.shield(_end(worker.process))

    async def _start_worker(self) -> _Process:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "generator.worker", str(theirs.fileno()),
                    pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.DEVNULL, stdout=sys.stderr.fileno(),
                    process_group=0,  # Ctrl-C is for the server, which drains first
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        ours.setblocking(False)
        _, link = await asyncio.get_running_loop().create_connection(lambda: _Link(self), sock=ours)
        return _Process(process, link)

    def _end_requests(self, reason: str) -> None:
        mailboxes, self._mailboxes = self._mailboxes, {}
        self._left.clear()
        for mailbox in mailboxes.values():
            mailbox.fail(Unavailable(f"The engine stopped while it answered ({reason}). Try again.", retry_after_s=1.0))

    def _become(self, state: EngineState, message: str = "") -> None:
        self.state, self.state_message = state, message
        self._tell_ready(state is EngineState.READY)
        log.info("engine_state", state=state.value, message=message)
        if state is EngineState.LOADING:
            self._settled.clear()
        else:
            self._settled.set()


def backoff_s(failures: int) -> float:
    """How long to wait after so many failures in a row."""
    return min(_FIRST_BACKOFF_S * 2 ** min(failures - 1, _MOST_DOUBLINGS), _LONGEST_BACKOFF_S)


async def _end(process: asyncio.subprocess.Process) -> None:
    """The closed socket ends a worker between two steps; one that hangs is killed."""
    try:
        await asyncio.wait_for(process.wait(), _STOP_GRACE_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
