"""A chunk as Qdrant stores it, the same for both stores, so that a folder of one can be moved to the other.

Metadata stands in typed columns (`text.KEY`, `number.KEY`, `flag.KEY`, `time.KEY`): one Qdrant payload index has one
type, but a key may be a number in one document and text in another. A flag is kept as text because qdrant-edge 0.9 turns
a boolean in a filter into a whole number, which matches nothing.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mesh.places import NOWHERE, Place
from retriever.chunks import Chunk, MetadataValue
from retriever.filters import METADATA, Kind, kinds_of

DENSE, SPARSE = "dense", "sparse"
FIXED_INDEXES = {"document": "keyword", "display_name": "keyword", "page": "float", "index": "integer"}
COLUMN_INDEXES = {Kind.TEXT: "keyword", Kind.NUMBER: "float", Kind.FLAG: "keyword", Kind.TIME: "datetime"}


def column(key: str, kind: Kind) -> str:
    """Path of a metadata key in the payload; quoted, because a key may hold dots and spaces."""
    return f'{kind.value}."{key}"'


def field_path(field: str, kind: Kind) -> str:
    """Path of a filter's field."""
    return column(field.removeprefix(METADATA), kind) if field.startswith(METADATA) else field


def to_payload(chunk: Chunk) -> dict[str, Any]:
    """What is stored beside the vectors."""
    return {
        "document": chunk.document,
        "version": chunk.version,
        "index": chunk.index,
        "body": chunk.text,
        "start": chunk.start,
        "end": chunk.end,
        "page": chunk.page,
        "headings": list(chunk.headings),
        "display_name": chunk.display_name,
        **_place(chunk.place),
        **{name: values for name, values in metadata_columns(chunk.metadata).items() if values},
    }


def to_chunk(point_id: str, payload: Mapping[str, Any]) -> Chunk:
    """The chunk that was stored."""
    return Chunk(
        id=point_id,
        document=payload["document"],
        version=payload["version"],
        index=payload["index"],
        text=payload["body"],
        start=payload["start"],
        end=payload["end"],
        page=payload["page"],
        headings=tuple(payload["headings"]),
        display_name=payload["display_name"],
        metadata=_metadata(payload),
        place=Place(**payload["place"]) if "place" in payload else NOWHERE,
    )


def _place(place: Place) -> dict[str, dict[str, Any]]:
    """Only what is set; most chunks have none."""
    return {"place": {name: value for name, value in asdict(place).items() if value}} if place != NOWHERE else {}


def metadata_columns(metadata: Mapping[str, MetadataValue]) -> dict[str, dict[str, Any]]:
    """Metadata as columns, one for each kind, empty ones too."""
    columns: dict[str, dict[str, Any]] = {kind.value: {} for kind in Kind}
    for key, value in metadata.items():
        for kind in kinds_of(value):
            columns[kind.value][key] = _stored(value)
    return columns


def _stored(value: MetadataValue) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return float(value)
    return value if isinstance(value, str) else list(value)


def _metadata(payload: Mapping[str, Any]) -> dict[str, MetadataValue]:
    metadata: dict[str, MetadataValue] = {}
    for kind in (Kind.TEXT, Kind.NUMBER):
        values = payload.get(kind.value, {})
        metadata.update({key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    metadata.update({key: value == "true" for key, value in payload.get(Kind.FLAG.value, {}).items()})
    return metadata
