"""Chunks and what names them: the unit that is embedded, stored and found. Knows neither gRPC nor Qdrant."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mesh.places import NOWHERE, Place

MetadataValue = str | float | bool | tuple[str, ...] | tuple[float, ...]
"""What a metadata key may hold; times are RFC 3339 text."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one version of a document; `text` equals the parsed text at `[start:end]`, in code points."""

    id: str
    document: str
    version: str
    index: int
    text: str
    start: int = 0
    end: int = 0
    page: int = 0
    headings: tuple[str, ...] = ()
    display_name: str = ""
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class DocumentVersion:
    """One version of one document, by resource name."""

    document: str
    version: str


@dataclass(frozen=True, slots=True)
class Description:
    """All that is known of a version of a document."""

    version: DocumentVersion
    metadata: Mapping[str, MetadataValue]


def text_to_index(chunk: Chunk) -> str:
    """What embedder and BM25 read: headings and the names of columns give a chunk the context that its words lack."""
    header = [chunk.place.table_header] if chunk.place.table_header else []
    return "\n".join([*chunk.headings, *header, chunk.text])
