"""What a backup asks of the rooms that know the stores: `ingest/backup.py` and `retriever/backup.py` answer."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A chunk with its vectors: `content` is a message that can be joined with others."""

    id: str
    document: str
    version: str
    content: bytes


@dataclass(frozen=True, slots=True)
class SeenCollection:
    """A collection as the catalog has it, and its indexes with their dimensions."""

    record: dict[str, Any]
    indexes: tuple[tuple[str, int], ...]


class Chunks(Protocol):
    """The retriever's collections."""

    async def collections(self) -> list[SeenCollection]:
        """As they are now."""
        ...

    async def page(
        self, index: str, *, staged: bool, after: str, documents: Sequence[str] = ()
    ) -> tuple[list[ChunkRow], str]:
        """Chunks by their id, and where the next page begins. NotFound for an index that is gone."""
        ...


@dataclass(frozen=True, slots=True)
class Cut:
    """What ingest's database says at one instant: the files that must be there, all that may, and those of them whose bytes
    change; by collection the live version of each document with the number of its chunks, all versions of each, and the
    documents that have changed since the backup began, or still do. Collections by their ids, with their tenants; documents by
    their names."""

    needed_files: frozenset[str]
    files: frozenset[str]
    changing_files: frozenset[str]
    live: dict[str, dict[str, tuple[str, int]]]
    versions: dict[str, dict[str, set[str]]]
    changed: dict[str, set[str]]


class Documents(Protocol):
    """Ingest's documents."""

    async def cut(self, connection: AsyncConnection, since_us: int) -> Cut:
        """Asked in the transaction that is copied."""
        ...

    def files(self) -> AsyncIterator[str]:
        """Keys of all files whose bytes do not change."""
        ...

    def read(self, key: str) -> AsyncIterator[bytes]:
        """A file. Corrupt for one that is gone."""
        ...


class ChunksTarget(Protocol):
    """A retriever's stores, which are filled."""

    async def begin(self, collection: SeenCollection, *, replace: bool) -> None:
        """Makes the empty indexes. FailedPrecondition where there are chunks, unless they are to be replaced."""
        ...

    async def put(self, index: str, content: bytes, *, staged: bool, without: frozenset[str]) -> int:
        """Stores the chunks of joined messages, but for those of some documents; returns how many."""
        ...

    async def finish(self, collection: SeenCollection, counts: dict[str, tuple[int, int]]) -> None:
        """All chunks are there: published and staged ones by index. Corrupt where the store counts otherwise."""
        ...


class DocumentsTarget(Protocol):
    """Ingest's object store, which is filled."""

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> None:
        """Keeps a file."""
        ...

    async def settle(self, url: str) -> None:
        """The database is filled: workers of the mesh that was backed up carry nothing any more."""
        ...
