"""A file of operations beside the shard: what a crash must not leave half done, and what a successor has to catch up with.

The shard's own log makes each update durable; this one makes an operation of several updates whole. It outlives the end
of the process, not that of the machine.
"""

import os
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from retriever.stores.edge.operations import Operation
from retriever.stores.edge.wire import dumps

_LENGTH = struct.Struct("!Q")


class Journal:
    """Written by the process whose shard is live. A broken last operation was never acknowledged, and is passed over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def append(self, operation: Operation) -> None:
        """Before the operation is applied."""
        body = dumps(operation)
        view = memoryview(_LENGTH.pack(len(body)) + body)
        while view:
            view = view[os.write(self._file, view) :]

    def clear(self) -> None:
        """All of it has been applied, and nobody follows."""
        os.ftruncate(self._file, 0)

    def last(self) -> Operation | None:
        """The only one that may have been left half done. None when there is none."""
        return Follower(self._path).last()

    def close(self) -> None:
        """Lets go of the file."""
        os.close(self._file)


class Follower:
    """Reads what another process appends."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new(self) -> Iterator[Operation]:
        """Those that were appended since, up to the end as it is now."""
        with self._path.open("rb") as file:
            for start, length in self._found(file):
                file.seek(start)
                yield pickle.loads(file.read(length))  # noqa: S301 - our own file

    def last(self) -> Operation | None:
        """The last of all."""
        with self._path.open("rb") as file:
            found = list(self._found(file))
            if not found:
                return None
            file.seek(found[-1][0])
            return pickle.loads(file.read(found[-1][1]))  # noqa: S301 - our own file

    def _found(self, file: BinaryIO) -> Iterator[tuple[int, int]]:
        """Where each whole one starts, and how long it is."""
        size = os.fstat(file.fileno()).st_size
        while self._offset + _LENGTH.size <= size:
            file.seek(self._offset)
            (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
            start = self._offset + _LENGTH.size
            if start + length > size:
                return
            self._offset = start + length
            yield start, length
