"""Messages between the server and an engine's process: what they are and how they are framed on a socket pair.

Both ends are this program on this machine, so messages are pickled: four bytes of length, then the pickle.
"""

import pickle
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from generator.engines.base import EngineInfo, EngineLaunch, EngineRequest, Refused
from generator.requests import FinishReason

_LENGTH = struct.Struct("<I")
_READ_BYTES = 256 * 1024


class Progress(NamedTuple):
    """What a step brought one request: text, the tokens it came from, and how the request ended if it did."""

    request_id: int
    text: str
    tokens: int
    finish: FinishReason | None = None
    completion_tokens: int = 0
    cached_prompt_tokens: int = 0


@dataclass(frozen=True)
class Load:
    """To the worker, first: the engine to load. `path` is sys.path, so that the factory can be found."""

    launch: EngineLaunch
    path: list[str]


@dataclass(frozen=True)
class Add:
    """To the worker: take this request up."""

    request: EngineRequest


@dataclass(frozen=True)
class Cancel:
    """To the worker: free this request's slot."""

    request_id: int


@dataclass(frozen=True)
class Ready:
    """From the worker: the engine is up."""

    info: EngineInfo


@dataclass(frozen=True)
class Failed:
    """From the worker, last: the engine could not be loaded, or broke."""

    message: str


@dataclass(frozen=True)
class Stepped:
    """From the worker: everything that one step brought. `freed` are the cancelled requests whose slots are free now."""

    progress: list[Progress]
    refused: list[Refused]
    freed: tuple[int, ...] = ()


ToWorker = Load | Add | Cancel
FromWorker = Ready | Failed | Stepped


def pack(message: ToWorker | FromWorker) -> bytes:
    """A message with its length."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


class Unpacker:
    """Finds whole messages in bytes that come in any pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[ToWorker | FromWorker]:
        """The messages that are complete with `data`."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield pickle.loads(body)  # noqa: S301 - from our own process, over a socket pair that no one else has


class WorkerSocket:
    """The worker's end: blocking, used from one thread."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._unpacker = Unpacker()

    def send(self, message: FromWorker) -> None:
        """Sends the whole message."""
        self._socket.sendall(pack(message))

    def receive(self, *, wait: bool) -> list[ToWorker]:
        """Messages that have come; with `wait` at least one. EOFError when the server is gone."""
        messages: list[ToWorker] = []
        while not messages:
            try:  # not select: it takes no descriptor from 1,024 on, such as a server with many callers has
                data = self._socket.recv(_READ_BYTES, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            if not data:
                raise EOFError
            messages.extend(self._unpacker.feed(data))  # pyright: ignore[reportArgumentType] - only the server writes here
        return messages
