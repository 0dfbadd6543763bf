"""What the retriever and an engine's process say to each other: pickled messages, each after its length and its number.

The number is the request's, which the answer carries back. What a process says unasked has the number 0.
"""

import os
import pickle
import select
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

from mesh.errors import MurpheyError

HEAD = struct.Struct("!QQ")
"""Length of the body in bytes, number of the request."""
UNASKED = 0
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """A call of an index's method, or of the engine's own."""

    method: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """What it returned, or the error that it raised."""

    value: Any = None
    error: MurpheyError | None = None


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Said unasked: this sub-folder holds the shard with its search indexes built, ready for a successor."""

    name: str


def dumps(message: object) -> bytes:
    """The body of a message."""
    return pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)


def write_frame(stream: BinaryIO, number: int, message: object) -> None:
    """Blocks until it is written."""
    body = dumps(message)
    stream.write(HEAD.pack(len(body), number))
    stream.write(body)
    stream.flush()


class Inbox:
    """Messages from a pipe, read by the thread that works on them: no other thread asks for the interpreter's lock."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._buffer = bytearray()
        self.ended = False
        """Whether the other side has closed its end, or is gone."""

    def take(self, timeout_s: float) -> list[tuple[int, Any]]:
        """All messages that have come whole, with their numbers; waits for something to come, at most so long."""
        if not self.ended and self._poll.poll(timeout_s * 1000):
            self._read()
        taken: list[tuple[int, Any]] = []
        while len(self._buffer) >= HEAD.size:
            length, number = HEAD.unpack_from(self._buffer)
            end = HEAD.size + length
            if len(self._buffer) < end:
                break
            taken.append((number, pickle.loads(memoryview(self._buffer)[HEAD.size : end])))  # noqa: S301 - our parent's
            del self._buffer[:end]
        return taken

    def gone(self) -> bool:
        """Whether it has ended, asked without taking anything."""
        self._read()
        return self.ended

    def _read(self) -> None:
        try:
            while part := os.read(self._descriptor, _READ_BYTES):
                self._buffer += part
            self.ended = True
        except BlockingIOError:
            return
        except ConnectionResetError:
            self.ended = True
