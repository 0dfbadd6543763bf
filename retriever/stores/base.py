"""What a store of chunks is. `edge` and `server` keep the same promises; one suite of tests holds both to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from retriever.chunks import Chunk, Description, DocumentVersion
from retriever.filters import NO_FILTER, Filter, Kind
from retriever.sparse import SparseVector


class Mode(Enum):
    """How passages are found."""

    DENSE = "dense"
    SPARSE = "sparse"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class IndexedChunk:
    """A chunk with the vectors that it is found by."""

    chunk: Chunk
    dense: Sequence[float]
    sparse: SparseVector


@dataclass(frozen=True, slots=True)
class StoreQuery:
    """A question in vectors: `dense` for dense and hybrid, `sparse` for sparse and hybrid."""

    mode: Mode
    limit: int
    dense: Sequence[float] | None = None
    sparse: SparseVector | None = None
    condition: Filter = NO_FILTER


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found. `dense_score` is the cosine, None in sparse search."""

    chunk: Chunk
    score: float
    dense_score: float | None


@dataclass(frozen=True, slots=True)
class Window:
    """Chunks `first` to `last`, both included, of one version of a document."""

    version: DocumentVersion
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Chunks that searches see, and chunks that wait to be published."""

    live: int
    staged: int


@dataclass(frozen=True, slots=True)
class Page:
    """Chunks by their id, with their vectors, and where the next page begins; empty where there is none."""

    chunks: list[IndexedChunk]
    after: str


@dataclass(frozen=True, slots=True)
class OfDocuments:
    """All chunks of these documents, every version."""

    documents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OfIds:
    """The chunks with these ids."""

    ids: tuple[str, ...]


Selection = OfDocuments | OfIds | DocumentVersion


class Store(Protocol):
    """Physical indexes of chunks. What a call has acknowledged survives a crash. NotFound for an index that is not there."""

    async def create_index(self, index: str, dimensions: int) -> None:
        """Makes an empty index; one that is there stays as it is."""
        ...

    async def drop_index(self, index: str) -> None:
        """Deletes an index with its chunks; nothing happens when there is none."""
        ...

    async def add_fields(self, index: str, fields: Sequence[tuple[str, Kind]]) -> None:
        """Indexes metadata keys, so that filters on them are fast. Idempotent."""
        ...

    async def upsert(self, index: str, chunks: Sequence[IndexedChunk], *, staged: bool) -> None:
        """Stores all or none; the same id is replaced. Staged chunks are never found before they are published."""
        ...

    async def publish(self, index: str, versions: Sequence[DocumentVersion]) -> int:
        """Makes these versions found and removes the documents' other versions; returns how many chunks were removed.

        A search sees a document either before or after, never both versions and never neither. A version that has no
        chunks, neither staged nor published, is left out: staged chunks are used up by their publishing, so that whoever
        asks for it late, when the version has been replaced or deleted, changes nothing.
        """
        ...

    async def describe(self, index: str, descriptions: Sequence[Description]) -> int:
        """Gives the published chunks of versions other metadata; returns how many have it now. Idempotent."""
        ...

    async def delete(self, index: str, selection: Selection) -> int:
        """Removes chunks, staged ones too; returns how many there were."""
        ...

    async def search(self, index: str, query: StoreQuery) -> list[Hit]:
        """The best first; ties in no order."""
        ...

    async def neighbors(self, index: str, windows: Sequence[Window]) -> Mapping[Window, list[Chunk]]:
        """The published chunks of each window, by their index."""
        ...

    async def vectors(self, index: str, ids: Sequence[str]) -> Mapping[str, tuple[Chunk, Sequence[float]]]:
        """Those of these chunks that are there, published or staged, with their dense vectors."""
        ...

    async def stored(self, index: str) -> Mapping[DocumentVersion, Counts]:
        """Every version that has chunks. What changes meanwhile may be there or not."""
        ...

    async def count(self, index: str) -> Counts:
        """Exact counts."""
        ...

    async def page(self, index: str, *, staged: bool, after: str = "", documents: Sequence[str] = ()) -> Page:
        """The published or the staged chunks from `after` on, all or those of some documents. A chunk that is there all the
        time is on exactly one page; what changes meanwhile may be on one or not."""
        ...

    async def close(self) -> None:
        """Writes everything down and lets go."""
        ...
