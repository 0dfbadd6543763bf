"""A TCP proxy before one service, which a test or benchmark tells to misbehave: late, reset, cut off, slow, or half gone.

A proxy of our own rather than toxiproxy: it needs no other tool chain, it holds a peer that is half gone (toxiproxy's
`timeout` keeps both ends), and it passes Unix sockets on, as Postgres has in the tests. It works on bytes: a lost packet shows
as what TCP makes of it, a delay or a reset.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

_PIECE_BYTES = 16 * 1024
_SLOW_PIECE_BYTES = 256
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Fault(Enum):
    """What is wrong on the way."""

    NONE = "none"
    LATENCY = "latency"
    """Every piece of bytes comes late, both ways."""
    RESET = "reset"
    """Connections are reset, those that are there and those that come."""
    PARTITION = "partition"
    """Nothing gets through, and nothing says so; what was sent gets through when it heals."""
    SLOW_READER = "slow reader"
    """What the service sends is read a few bytes at a time."""
    HALF_OPEN = "half-open"
    """The service's end of each connection is gone and the caller is not told; new connections are well."""


@dataclass(frozen=True)
class Place:
    """Where something listens: `host` and `port`, or a Unix socket."""

    host: str = "127.0.0.1"
    port: int = 0
    path: Path | None = None

    @classmethod
    def of(cls, target: str) -> "Place":
        """`127.0.0.1:7402`."""
        host, _, port = target.rpartition(":")
        return cls(host, int(port))


class FaultProxy:
    """Passes connections on to `to`. Use through `fault_proxy`; `fault` is changed while connections run."""

    def __init__(self, to: Place, at: Place, latency_s: float, slow_bytes_per_s: float) -> None:
        self._to, self._at = to, at
        self._latency_s, self._slow_bytes_per_s = latency_s, slow_bytes_per_s
        self._fault, self._healed = Fault.NONE, asyncio.Event()
        self._healed.set()
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.target = ""

    async def open(self) -> None:
        """Listens; `target` says where."""
        if self._at.path is not None:
            self._server = await asyncio.start_unix_server(self._accept, self._at.path)
            self.target = str(self._at.path)
            return
        self._server = await asyncio.start_server(self._accept, self._at.host, self._at.port)
        self.target = f"{self._at.host}:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Ends everything."""
        if self._server is not None:
            self._server.close()
        for connection in set(self._connections):
            connection.reset()
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def fault(self) -> Fault:
        """What is wrong now."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        (self._healed.clear if fault is Fault.PARTITION else self._healed.set)()
        for connection in set(self._connections):
            if fault is Fault.RESET:
                connection.reset()
            elif fault is Fault.HALF_OPEN:
                connection.drop_service()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(writer)
        if self._fault is Fault.RESET:
            connection.reset()
            return
        self._connections.add(connection)
        try:
            await self._healed.wait()
            with contextlib.suppress(OSError):
                answers, connection.service = await self._dial()
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(reader, connection.service, connection))
                    pumps.create_task(self._pump(answers, writer, connection, from_service=True))
        finally:
            self._connections.discard(connection)
            connection.close()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._to.path is not None:
            return await asyncio.open_unix_connection(self._to.path)
        return await asyncio.open_connection(self._to.host, self._to.port)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        connection: "_Connection",
        *,
        from_service: bool = False,
    ) -> None:
        """Until the source ends, which the sink is told, unless the connection is half-open."""
        with contextlib.suppress(OSError):
            while piece := await source.read(_SLOW_PIECE_BYTES if self._is_slow(from_service) else _PIECE_BYTES):
                await self._hold(len(piece), from_service)
                if connection.half_open:
                    continue  # into nothing
                sink.write(piece)
                await sink.drain()
        if connection.half_open:
            if from_service:
                return
            connection.close()
        elif sink.can_write_eof():
            with contextlib.suppress(OSError):
                sink.write_eof()

    async def _hold(self, size: int, from_service: bool) -> None:
        if self._fault is Fault.LATENCY:
            await asyncio.sleep(self._latency_s)
        elif self._is_slow(from_service):
            await asyncio.sleep(size / self._slow_bytes_per_s)
        await self._healed.wait()

    def _is_slow(self, from_service: bool) -> bool:
        return from_service and self._fault is Fault.SLOW_READER


class _Connection:
    """The two ends of a connection that is passed on."""

    def __init__(self, caller: asyncio.StreamWriter) -> None:
        self.caller = caller
        self.service: asyncio.StreamWriter | None = None
        self.half_open = False

    def drop_service(self) -> None:
        """The service's end is closed, the caller's stays."""
        if self.service is not None:
            self.half_open = True
            self.service.close()

    def reset(self) -> None:
        """Both peers get a reset."""
        for end in (self.caller, self.service):
            if end is None:
                continue
            raw = end.get_extra_info("socket")
            if raw is not None and raw.family != socket.AF_UNIX:
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.transport.abort()

    def close(self) -> None:
        """Both ends."""
        for end in (self.caller, self.service):
            if end is not None:
                end.close()


@asynccontextmanager
async def fault_proxy(
    to: Place, at: Place | None = None, *, latency_s: float = 1.0, slow_bytes_per_s: float = 1_000.0
) -> AsyncIterator[FaultProxy]:
    """A proxy that listens while inside, on a free port unless `at` says where; without a fault at first."""
    proxy = FaultProxy(to, at or Place(), latency_s, slow_bytes_per_s)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()
