"""What ingest needs of whatever embeds and stores chunks."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ingest.chunking import ChunkSize
from ingest.documents import Metadata
from ingest.places import Place


@dataclass(frozen=True)
class Chunk:
    """A chunk to be embedded and stored; `text` stands at `start` to `end` in the document's parsed text.

    `table` is the number of the table in the document that it holds or begins in, 0 for none; `table_header` the line of that
    table's header, where the text has rows without it.
    """

    id: str
    index: int
    text: str
    start: int
    end: int
    page: int
    headings: Sequence[str]
    place: Place = field(default_factory=Place)
    table: int = 0
    table_header: str = ""
    same_as: str = ""
    """The id of a chunk that may read the same: its vector is taken then."""


@dataclass(frozen=True)
class ChunkRange:
    """Live chunks of a version, by their number, the last one included."""

    version: str
    first: int
    last: int


@dataclass(frozen=True)
class DocumentChunks:
    """Chunks of one version of a document, and what goes with each of them. `reuse` are live chunks of the document of which
    some may read the same: their vectors are taken then."""

    document: str
    version: str
    display_name: str
    metadata: Metadata
    chunks: Sequence[Chunk]
    reuse: ChunkRange | None = None


@dataclass(frozen=True)
class IndexTarget:
    """An index of a collection, and how documents are cut for it."""

    version: str
    size: ChunkSize


@dataclass(frozen=True)
class NewIndex:
    """What another index of a collection shall differ in: empty, 0 and None mean the same as the live one. `previous`: the
    one that was live before."""

    embedder: str = ""
    chunk_tokens: int = 0
    overlap_tokens: int | None = None
    splitter: str = ""
    previous: bool = False


@dataclass(frozen=True)
class CollectionIndexes:
    """The indexes of a collection."""

    live: IndexTarget
    building: IndexTarget | None
    previous: IndexTarget | None


class IndexReplaced(Exception):
    """The index is not in use any more: what was cut for it must be cut anew."""


@dataclass(frozen=True)
class Description:
    """All that shall be known of a version of a document."""

    document: str
    version: str
    metadata: Metadata


@dataclass(frozen=True)
class StoredVersion:
    """What the index holds of a version of a document."""

    document: str
    version: str
    live_chunks: int
    staged_chunks: int


class ChunkIndex(Protocol):
    """Failures are mesh.errors: NotFound for an unknown collection, Unavailable when it cannot be reached. An empty index
    version means the live one; IndexReplaced for one that is neither live nor being built."""

    async def indexes(self, collection: str) -> CollectionIndexes:
        """The collection's indexes, and how documents are cut for each."""
        ...

    async def collections(self) -> list[str]:
        """The ids of all collections of the current call's tenant."""
        ...

    def stored(self, collection: str, index_version: str = "") -> AsyncIterator[StoredVersion]:
        """Every version that has chunks. What changes meanwhile may be there or not."""
        ...

    async def stage(self, collection: str, documents: Sequence[DocumentChunks], index_version: str = "") -> None:
        """Embeds and stores chunks, not yet seen by searches. Idempotent."""
        ...

    async def publish(self, collection: str, versions: Sequence[tuple[str, str]], index_version: str = "") -> None:
        """Makes these versions, `(document, version)`, the ones that searches find. Idempotent. One without chunks is left
        out: a call that comes late changes nothing."""
        ...

    async def describe(self, collection: str, descriptions: Sequence[Description]) -> None:
        """Gives chunks that searches find other metadata, in every index. Idempotent."""
        ...

    async def delete_documents(self, collection: str, documents: Sequence[str]) -> int:
        """Deletes all chunks of documents in every index; answers how many there were in the live one."""
        ...

    async def delete_version(self, collection: str, document: str, version: str, index_version: str = "") -> None:
        """Deletes the chunks of one version, in every index for an empty index version."""
        ...

    async def begin_index(self, collection: str, new: NewIndex) -> CollectionIndexes:
        """Begins another index. Idempotent. FailedPrecondition while another one is being built."""
        ...

    async def swap_index(self, collection: str, index_version: str) -> None:
        """Makes the index that was built the live one. Idempotent."""
        ...

    async def drop_index(self, collection: str, index_version: str, *, keep: bool = False) -> None:
        """Drops an index that is not live, or keeps it as the previous one. Idempotent."""
        ...
