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
class DocumentChunks:
    """Chunks of one version of a document, and what goes with each of them."""

    document: str
    version: str
    display_name: str
    metadata: Metadata
    chunks: Sequence[Chunk]


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
    """Failures are mesh.errors: NotFound for an unknown collection, Unavailable when it cannot be reached."""

    async def chunk_size(self, collection: str) -> ChunkSize:
        """How the collection's documents are cut."""
        ...

    async def collections(self) -> list[str]:
        """The ids of all collections."""
        ...

    def stored(self, collection: str) -> AsyncIterator[StoredVersion]:
        """Every version that has chunks. What changes meanwhile may be there or not."""
        ...

    async def stage(self, collection: str, documents: Sequence[DocumentChunks]) -> None:
        """Embeds and stores chunks, not yet seen by searches. Idempotent."""
        ...

    async def publish(self, collection: str, versions: Sequence[tuple[str, str]]) -> None:
        """Makes these versions, `(document, version)`, the ones that searches find. Idempotent."""
        ...

    async def describe(self, collection: str, descriptions: Sequence[Description]) -> None:
        """Gives chunks that searches find other metadata. Idempotent."""
        ...

    async def delete_documents(self, collection: str, documents: Sequence[str]) -> int:
        """Deletes all chunks of documents; answers how many there were."""
        ...

    async def delete_version(self, collection: str, document: str, version: str) -> None:
        """Deletes the chunks of one version."""
        ...
