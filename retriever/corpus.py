"""What state the searchable contents of an index are in, so that what was found can be kept while they are the same.

A write names a new state after the store has done it and before its caller hears of that: whoever knows of a write never
meets what was kept before it. A search asks for the state first, so that what it finds is never kept under a later one.
"""

import itertools
import uuid
from dataclasses import dataclass
from typing import Protocol

from mesh.caching import digest


@dataclass(frozen=True, slots=True)
class CorpusVersion:
    """Opaque: `contents` is another one after every write that a search could tell, `removals` only after deletions."""

    contents: str
    removals: str


class CorpusVersions(Protocol):
    """The states of all indexes, as every replica of the retriever sees them."""

    async def of(self, index: str) -> CorpusVersion:
        """The state that an index is in now."""
        ...

    async def move(self, index: str, *, removal: bool) -> None:
        """Names a new state."""
        ...


class ProcessCorpusVersions:
    """For a store that only this process writes to. A restart names all states anew, so that nothing need be written down."""

    def __init__(self) -> None:
        self._beginning = uuid.uuid4().hex
        self._numbers = itertools.count(1)
        self._contents: dict[str, int] = {}
        self._removals: dict[str, int] = {}

    async def of(self, index: str) -> CorpusVersion:
        return CorpusVersion(self._name(index, self._contents), self._name(index, self._removals))

    async def move(self, index: str, *, removal: bool) -> None:
        self._contents[index] = number = next(self._numbers)
        if removal:
            self._removals[index] = number

    def _name(self, index: str, numbers: dict[str, int]) -> str:
        return digest(self._beginning, index, numbers.get(index, 0)).hex()
