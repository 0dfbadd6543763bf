"""Vectors whose caller left before all of its texts were embedded, kept for a while for the one that asks again."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

MAX_VECTORS = 4_096
"""What an ingest worker has on its way, several times over; 6 MB at 384 dimensions."""

Vector = npt.NDArray[np.float32]


class Leftovers:
    """By the hash of the text; those that were kept longest are forgotten first."""

    def __init__(self, max_vectors: int = MAX_VECTORS) -> None:
        self._max_vectors = max_vectors
        self._vectors: OrderedDict[bytes, Vector] = OrderedDict()

    def keep(self, texts: Sequence[str], vectors: Iterable[Vector]) -> None:
        """Remembers the vectors of texts."""
        for text, vector in zip(texts, vectors, strict=True):
            self._vectors[_key(text)] = np.array(vector, np.float32)
        while len(self._vectors) > self._max_vectors:
            self._vectors.popitem(last=False)

    def find(self, texts: Sequence[str]) -> dict[int, Vector]:
        """The vectors that are kept, by the row of their text."""
        if not self._vectors:
            return {}
        found = {row: self._vectors.get(_key(text)) for row, text in enumerate(texts)}
        return {row: vector for row, vector in found.items() if vector is not None}


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
