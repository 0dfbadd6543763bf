"""What an embedder is. The ones that exist are in embedders/; only app.py chooses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
"""(n, dimensions), each row of length 1."""


class Purpose(Enum):
    """What a text is embedded for; some models put a prompt before one or the other."""

    QUERY = "query"
    DOCUMENT = "document"


@dataclass(frozen=True)
class Slice:
    """Documents of a call that go through the network together: their rows in the call, and what the embedder made of them."""

    rows: list[int]
    prepared: Any


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
        """How many slices may be embedded at a time, each in a thread, and as many calls of `embed` for queries; with 1,
        only one run of any kind may."""
        ...

    def embed(self, texts: Sequence[str], purpose: Purpose) -> Vectors:
        """One row for each text, in the same order. Blocks."""
        ...

    def cut(self, texts: Sequence[str]) -> list[Slice]:
        """Documents in slices of like length, the longest first: as many in each as the network works on best. Any number of
        threads may call it, and it blocks for a small part of the time that embedding takes."""
        ...

    def embed_slice(self, cut: Slice) -> Vectors:
        """One row for each of its rows, in their order. Blocks for tens of milliseconds, so that a query waits no longer."""
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


def slices_by_length(texts: Sequence[str], max_texts: int, max_characters: int) -> Iterator[Slice]:
    """Slices for an embedder that prepares nothing: what they hold are the texts. One longer than the most is alone."""
    rows: list[int] = []
    characters = 0
    for row in sorted(range(len(texts)), key=lambda row: -len(texts[row])):
        characters += len(texts[row])
        if rows and (characters > max_characters or len(rows) == max_texts):
            yield Slice(rows, [texts[row] for row in rows])
            rows, characters = [], len(texts[row])
        rows.append(row)
    if rows:
        yield Slice(rows, [texts[row] for row in rows])
