"""A chunk as Qdrant stores it, the same for both stores, so that a folder of one can be moved to the other.

Metadata stands in typed columns (`text.KEY`, `number.KEY`, `flag.KEY`, `time.KEY`): one Qdrant payload index has one
type, but a key may be a number in one document and text in another. A flag is kept as text because qdrant-edge 0.9 turns
a boolean in a filter into a whole number, which matches nothing.
"""

from collections.abc import Mapping
from typing import Any

from retriever.chunks import Chunk, MetadataValue
from retriever.filters import METADATA, Kind, is_time

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
        **_columns(chunk.metadata),
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
    )


def _columns(metadata: Mapping[str, MetadataValue]) -> dict[str, dict[str, Any]]:
    columns: dict[str, dict[str, Any]] = {kind.value: {} for kind in Kind}
    for key, value in metadata.items():
        if isinstance(value, bool):
            columns[Kind.FLAG.value][key] = "true" if value else "false"
        elif isinstance(value, int | float):
            columns[Kind.NUMBER.value][key] = float(value)
        else:
            columns[Kind.TEXT.value][key] = value if isinstance(value, str) else list(value)
            if isinstance(value, str) and is_time(value):
                columns[Kind.TIME.value][key] = value
    return {name: values for name, values in columns.items() if values}


def _metadata(payload: Mapping[str, Any]) -> dict[str, MetadataValue]:
    texts = payload.get(Kind.TEXT.value, {})
    metadata: dict[str, MetadataValue] = {k: v if isinstance(v, str) else tuple(v) for k, v in texts.items()}
    metadata.update(payload.get(Kind.NUMBER.value, {}))
    metadata.update({key: value == "true" for key, value in payload.get(Kind.FLAG.value, {}).items()})
    return metadata
