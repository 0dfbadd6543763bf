"""Protobuf messages to and from the domain, with the checks that a message alone allows."""

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from mesh.access.tenants import public
from mesh.errors import InvalidInput
from mesh.names import collection_id, document_ids
from mesh.place_messages import place_message, to_place
from murphey.retriever.v1 import retriever_pb2
from retriever.bounds import MAX_CHUNK_CHARACTERS, check_count, finite, question_text, within
from retriever.chunks import Chunk, Description, DocumentVersion, MetadataValue
from retriever.filter_messages import to_filter
from retriever.rerank_messages import to_diversity, to_reranking
from retriever.search import DEFAULT_LIMIT, Passage, Question
from retriever.stores.base import Mode, OfDocuments, OfIds, Selection, Window

MAX_LIMIT, MAX_NEIGHBORS, MAX_KEY_CHARACTERS = 1_000, 10, 128
METADATA_VALUES = "Metadata holds strings, numbers, booleans, and lists of strings or of numbers."
_MODES = {
    retriever_pb2.SEARCH_MODE_DENSE: Mode.DENSE,
    retriever_pb2.SEARCH_MODE_SPARSE: Mode.SPARSE,
    retriever_pb2.SEARCH_MODE_HYBRID: Mode.HYBRID,
}


def to_question(request: retriever_pb2.SearchRequest, dimensions: int) -> Question:
    """InvalidInput names the field."""
    by_vector = request.WhichOneof("query") == "vector"
    return Question(
        collection=collection_id(request.collection),
        text="" if by_vector else question_text(request.text),
        vector=to_vector(request.vector, dimensions, "vector") if by_vector else None,
        mode=_mode(request.mode, by_vector),
        condition=to_filter(request.filter),
        limit=within("limit", request.limit if request.HasField("limit") else DEFAULT_LIMIT, 1, MAX_LIMIT),
        minimum_score=finite("minimum_score", request.minimum_score) if request.HasField("minimum_score") else None,
        neighbors=within("neighbors", request.neighbors, 0, MAX_NEIGHBORS),
        reranking=to_reranking(request, by_vector),
        diversity=to_diversity(request),
    )


def to_vector(vector: retriever_pb2.Vector, dimensions: int, field: str) -> Sequence[float]:
    """A vector of length 1 in the same direction."""
    values = np.asarray(vector.values, np.float32)
    if len(values) != dimensions:
        raise InvalidInput(f"The vector has {len(values)} numbers; the embedder has {dimensions}.", field=field)
    length = float(np.linalg.norm(values.astype(np.float64)))
    if not math.isfinite(length) or length == 0:
        raise InvalidInput("The vector must hold finite numbers that are not all 0.", field=field)
    return (values / length).astype(np.float32)  # pyright: ignore[reportReturnType] - a row of numbers


def to_chunks(
    messages: Iterable[retriever_pb2.Chunk], collection: str, dimensions: int
) -> tuple[list[Chunk], list[Sequence[float] | None], list[str]]:
    """The chunks, the vectors of those that bring one, and the ids of chunks that may read the same, or empty ones."""
    chunks: list[Chunk] = []
    twins: list[str] = []
    vectors: list[Sequence[float] | None] = []
    for row, message in enumerate(messages):
        field = f"chunks[{row}]"
        chunks.append(_chunk(message, collection, field))
        given = message.HasField("vector")
        twins.append(_uuid(message.same_as, f"{field}.same_as") if message.same_as else "")
        vectors.append(to_vector(message.vector, dimensions, f"{field}.vector") if given else None)
    if len({chunk.id for chunk in chunks}) < len(chunks):
        raise InvalidInput("Two chunks of the call have the same id.", field="chunks")
    return chunks, vectors, twins


def to_windows(messages: Iterable[retriever_pb2.ChunkRange], collection: str) -> list[Window]:
    """Ranges of chunks. InvalidInput for a document of another collection."""
    windows: list[Window] = []
    for row, message in enumerate(messages):
        version = retriever_pb2.DocumentVersion(document=message.document, version=message.version)
        windows.append(Window(to_version(version, collection, f"reuse[{row}]"), message.first, message.last))
    return windows


def to_version(message: retriever_pb2.DocumentVersion, collection: str, field: str) -> DocumentVersion:
    """InvalidInput when the document is not of this collection."""
    _check_document(message.document, collection, f"{field}.document")
    if not message.version:
        raise InvalidInput("The version is missing.", field=f"{field}.version")
    return DocumentVersion(message.document, message.version)


def to_descriptions(messages: Iterable[retriever_pb2.DocumentMetadata], collection: str) -> list[Description]:
    """Versions with their metadata. InvalidInput when a document is named twice."""
    found: list[Description] = []
    for row, message in enumerate(messages):
        field = f"documents[{row}]"
        version = to_version(
            retriever_pb2.DocumentVersion(document=message.document, version=message.version), collection, field
        )
        found.append(Description(version, _metadata(message.metadata, f"{field}.metadata")))
    if len({description.version.document for description in found}) < len(found):
        raise InvalidInput("A document is named twice.", field="documents")
    return found


def to_selection(request: retriever_pb2.DeleteChunksRequest, collection: str) -> Selection:
    """What to delete."""
    match request.WhichOneof("selection"):
        case "documents":
            names = tuple(request.documents.documents)
            check_count("documents.documents", len(names), 1_000)
            for name in names:
                _check_document(name, collection, "documents.documents")
            return OfDocuments(names)
        case "chunks":
            check_count("chunks.ids", len(request.chunks.ids), 10_000)
            return OfIds(tuple(_uuid(chunk_id, "chunks.ids") for chunk_id in request.chunks.ids))
        case "version":
            return to_version(request.version, collection, "version")
        case _:
            raise InvalidInput("Say what to delete: documents, chunks or version.", field="selection")


def passage_message(passage: Passage) -> retriever_pb2.Passage:
    """A passage, with the cosine where there is one."""
    return retriever_pb2.Passage(
        chunk=_chunk_message(passage.hit.chunk),
        score=passage.hit.score,
        dense_score=passage.hit.dense_score,
        before=[_chunk_message(chunk) for chunk in passage.before],
        after=[_chunk_message(chunk) for chunk in passage.after],
        rerank_score=passage.rerank_score,
    )


def _chunk(message: retriever_pb2.Chunk, collection: str, field: str) -> Chunk:
    _check_document(message.document, collection, f"{field}.document")
    if not message.version:
        raise InvalidInput("The version is missing.", field=f"{field}.version")
    if not 1 <= len(message.text) <= MAX_CHUNK_CHARACTERS:
        raise InvalidInput(
            f"The text has {len(message.text):,} characters; it must have 1 to {MAX_CHUNK_CHARACTERS:,}.",
            field=f"{field}.text",
        )
    if message.index < 0 or message.page < 0 or not 0 <= message.span.start <= message.span.end:
        raise InvalidInput("index, page and span must not be negative, nor the span backwards.", field=field)
    return Chunk(
        id=_uuid(message.id, f"{field}.id"),
        document=message.document,
        version=message.version,
        index=message.index,
        text=message.text,
        start=message.span.start,
        end=message.span.end,
        page=message.page,
        headings=tuple(message.headings),
        display_name=message.display_name,
        metadata=_metadata(message.metadata, f"{field}.metadata"),
        place=to_place(message.place),
    )


def _chunk_message(chunk: Chunk) -> retriever_pb2.Chunk:
    return retriever_pb2.Chunk(
        id=chunk.id,
        document=chunk.document,
        version=chunk.version,
        index=chunk.index,
        text=chunk.text,
        span=retriever_pb2.Span(start=chunk.start, end=chunk.end),
        page=chunk.page,
        headings=chunk.headings,
        display_name=chunk.display_name,
        metadata=_struct(tuple(chunk.metadata.items())) if chunk.metadata else None,
        place=place_message(chunk.place),
    )


@lru_cache(maxsize=1_024)
def _struct(items: tuple[tuple[str, MetadataValue], ...]) -> Struct:
    """Cached: building a Struct is slow, and the chunks of a document share theirs."""
    struct = Struct()
    struct.update({key: list(value) if isinstance(value, tuple) else value for key, value in items})
    return struct


def _metadata(struct: Struct, field: str) -> Mapping[str, MetadataValue]:
    metadata: dict[str, MetadataValue] = {}
    for key, value in struct.fields.items():
        if not 1 <= len(key) <= MAX_KEY_CHARACTERS or not key.isprintable() or set(key) & {'"', "\\", "[", "]"}:
            raise InvalidInput(
                f"The metadata key {key[:100]!r} must have 1 to {MAX_KEY_CHARACTERS} printable characters, none of "
                'them ", \\, [ or ].',
                field=field,
            )
        if value.WhichOneof("kind") != "null_value":
            metadata[key] = _metadata_value(value, f"{field}.{key}")
    return metadata


def _metadata_value(value: Value, field: str) -> MetadataValue:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return finite(field, value.number_value)
        case "bool_value":
            return value.bool_value
        case "list_value":
            return _metadata_list(value.list_value, field)
        case _:
            raise InvalidInput(METADATA_VALUES, field=field)


def _metadata_list(values: ListValue, field: str) -> MetadataValue:
    kinds = {item.WhichOneof("kind") for item in values.values}
    if kinds <= {"string_value"}:
        return tuple(item.string_value for item in values.values)
    if kinds == {"number_value"}:
        return tuple(finite(field, item.number_value) for item in values.values)
    raise InvalidInput(METADATA_VALUES, field=field)


def _mode(mode: retriever_pb2.SearchMode, by_vector: bool) -> Mode:
    if mode == retriever_pb2.SEARCH_MODE_UNSPECIFIED:
        return Mode.DENSE if by_vector else Mode.HYBRID
    if mode not in _MODES:
        raise InvalidInput(f"There is no search mode {mode}.", field="mode")
    if by_vector and _MODES[mode] is not Mode.DENSE:
        raise InvalidInput("A vector can be searched in dense mode only; give the text instead.", field="mode")
    return _MODES[mode]


def _uuid(text: str, field: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise InvalidInput(f"{text[:100]!r} is not a UUID.", field=field) from error


def _check_document(name: str, collection: str, field: str) -> None:
    if document_ids(name, field)[0] != collection:
        raise InvalidInput(f"The document {name[:200]!r} is not of the collection {public(collection)!r}.", field=field)
