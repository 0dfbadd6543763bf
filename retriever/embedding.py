"""What an embedder is. The ones that exist are in embedders/; only app.py chooses."""

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
"""(n, dimensions), each row of length 1."""


class Purpose(Enum):
    """What a text is embedded for; some models put a prompt before one or the other."""

    QUERY = "query"
    DOCUMENT = "document"


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def name(self) -> str:
        """How collections name it."""
        ...

    @property
    def version(self) -> str:
        """Changes when the same text could give another vector."""
        ...

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        ...

    @property
    def max_tokens(self) -> int:
        """Tokens that it reads of a text; the rest is cut off."""
        ...

    @property
    def slices_at_once(self) -> int:
        """How many calls of `embed` for documents may run at a time, each in a thread, and as many for queries; with 1,
        only one call of any kind may."""
        ...

    def embed(self, texts: Sequence[str], purpose: Purpose) -> Vectors:
        """One row for each text, in the same order. Blocks."""
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...
