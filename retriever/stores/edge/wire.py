"""What the retriever and the engine's process say to each other: pickled messages, each after its length."""

import pickle
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

from mesh.errors import MurpheyError

FRAME = struct.Struct("!Q")


@dataclass(frozen=True, slots=True)
class Request:
    """A call of `Index.{method}`, or of `Indexes.{method}` where `index` is empty."""

    id: int
    index: str
    method: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """What it returned, or the error that it raised."""

    id: int
    value: Any = None
    error: MurpheyError | None = None


def write_frame(stream: BinaryIO, message: object) -> None:
    """Length, then the pickled message."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(FRAME.pack(len(body)))
    stream.write(body)
    stream.flush()


def read_frames(stream: BinaryIO) -> Iterable[Any]:
    """The messages until the other side closes; one that it was killed in the middle of is left out."""
    while len(head := stream.read(FRAME.size)) == FRAME.size:
        (length,) = FRAME.unpack(head)
        if len(body := stream.read(length)) < length:
            return
        yield pickle.loads(body)  # noqa: S301 - from the parent process
