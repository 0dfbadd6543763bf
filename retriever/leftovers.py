"""Vectors that were made and are not stored yet, kept for the one who asks for them again.

A caller that is killed leaves before its vectors are stored, and so does this process when it is killed itself: then its
successor reads them from the file. What has been stored is forgotten.
"""

import contextlib
import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mesh.access.identity import DEFAULT_TENANT

MAX_VECTORS = 4_096
"""What ingest workers have on their way, several times over; 6 MB at 384 dimensions."""
MAX_AGE_S = 1_800.0
"""Nobody asks any more, such as for a job that was cancelled."""
MAX_FILE_BYTES = 32 * 1024 * 1024
_KEY_BYTES = 16

Vector = npt.NDArray[np.float32]


class Leftovers:
    """By the hash of the text and its tenant: none is served sooner for what another one has sent. Those that were kept
    longest are forgotten first. One process at a time has the file, and any of its threads may call."""

    def __init__(self, dimensions: int, path: Path | None = None, max_vectors: int = MAX_VECTORS) -> None:
        self._path, self._max_vectors = path, max_vectors
        self._vectors: OrderedDict[bytes, tuple[Vector, float]] = OrderedDict()
        self._file: int | None = None
        self._lock = threading.Lock()
        if path is not None:
            self._read(path, dimensions)
            self._rewrite(path)

    def keep(self, texts: Sequence[str], vectors: Iterable[Vector], owner: str = DEFAULT_TENANT) -> None:
        """Remembers the vectors of a tenant's texts."""
        now = time.monotonic()
        kept = [(_key(text, owner), np.array(vector, np.float32)) for text, vector in zip(texts, vectors, strict=True)]
        with self._lock:
            for key, vector in kept:
                self._vectors[key] = (vector, now)
                self._vectors.move_to_end(key)
            self._drop_old(now)
            self._append(b"".join(key + vector.tobytes() for key, vector in kept))

    def find(self, texts: Sequence[str], owner: str = DEFAULT_TENANT) -> dict[int, Vector]:
        """The vectors that are kept, by the row of their text."""
        if not self._vectors:
            return {}
        found = {row: self._vectors.get(_key(text, owner)) for row, text in enumerate(texts)}
        return {row: kept[0] for row, kept in found.items() if kept is not None}

    def forget(self, texts: Sequence[str], owner: str = DEFAULT_TENANT) -> None:
        """Their vectors are stored."""
        if not self._vectors:
            return
        with self._lock:
            for text in texts:
                self._vectors.pop(_key(text, owner), None)
            if not self._vectors and self._file is not None:
                os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Lets go of the file."""
        with self._lock:
            self._close()

    def _drop_old(self, now: float) -> None:
        while self._vectors:
            key, (_, since) = next(iter(self._vectors.items()))
            if len(self._vectors) <= self._max_vectors and now - since <= MAX_AGE_S:
                return
            del self._vectors[key]

    def _append(self, records: bytes) -> None:
        """One write, which the system keeps should this process be killed; a full disk costs only that."""
        if self._file is None or self._path is None:
            return
        with contextlib.suppress(OSError):
            os.write(self._file, records)
            if os.fstat(self._file).st_size > MAX_FILE_BYTES:
                self._rewrite(self._path)

    def _read(self, path: Path, dimensions: int) -> None:
        """What stands in the file; a record that was cut off at its end is left out."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
        size, now = _KEY_BYTES + 4 * dimensions, time.monotonic()
        for at in range(0, len(data) - size + 1, size):
            vector = np.frombuffer(data, np.float32, dimensions, at + _KEY_BYTES)
            if np.isfinite(vector).all():
                self._vectors[data[at : at + _KEY_BYTES]] = (vector, now)
        self._drop_old(now)

    def _rewrite(self, path: Path) -> None:
        """A file of what is kept now, in the place of the one that is there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".new")
        scratch.write_bytes(b"".join(key + vector.tobytes() for key, (vector, _) in self._vectors.items()))
        scratch.replace(path)
        self._close()
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _key(text: str, owner: str) -> bytes:
    salt = b"" if owner == DEFAULT_TENANT else owner.encode()
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES, key=salt).digest()
