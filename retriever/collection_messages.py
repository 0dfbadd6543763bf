"""Collections and their indexes as messages, and back."""

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from mesh.errors import InvalidInput
from mesh.names import collection_id, collection_name
from murphey.retriever.v1 import retriever_pb2 as pb
from retriever.building import NewIndex
from retriever.catalog import CollectionRecord, Splitter
from retriever.collections import NewCollection
from retriever.move_messages import STORES
from retriever.stores.base import Counts

_SPLITTERS = {
    pb.SPLITTER_STRUCTURE: Splitter.STRUCTURE,
    pb.SPLITTER_RECURSIVE: Splitter.RECURSIVE,
    pb.SPLITTER_SENTENCE: Splitter.SENTENCE,
}


def to_new_collection(message: pb.Collection) -> NewCollection:
    """What a collection's maker says of it."""
    if not message.name:
        raise InvalidInput("The collection's name is missing: write collections/ID.", field="collection.name")
    chunking = message.chunking
    return NewCollection(
        id=collection_id(message.name, "collection.name"),
        embedder=message.embedder,
        chunk_tokens=chunking.chunk_tokens,
        overlap_tokens=chunking.overlap_tokens if chunking.HasField("overlap_tokens") else None,
        language=message.language,
        splitter=_to_splitter(chunking, "collection.chunking.splitter"),
    )


def to_new_index(message: pb.BuildIndexRequest) -> NewIndex:
    """What shall differ from the live index."""
    chunking = message.chunking
    return NewIndex(
        embedder=message.embedder,
        chunk_tokens=chunking.chunk_tokens,
        overlap_tokens=chunking.overlap_tokens if chunking.HasField("overlap_tokens") else None,
        splitter=_to_splitter(chunking, "chunking.splitter"),
        previous=message.previous,
    )


def collection_message(
    record: CollectionRecord, counts: Sequence[Counts], default_tokens: int, default_store: str = "edge"
) -> pb.Collection:
    """A collection, for people to see. `counts` are those of its indexes, in order; `default_tokens` is what the embedder
    reads, and `default_store` where it is, where the record does not say."""
    created = Timestamp()
    created.FromDatetime(record.created)
    beside = {
        id(index): _index_message(index, found.live, default_tokens)
        for index, found in zip(record.indexes, counts, strict=True)
    }
    return pb.Collection(
        name=collection_name(record.id),
        embedder=record.embedder,
        chunking=_chunking(record),
        language=record.language,
        languages=record.word_languages,
        index_version=record.index_version,
        chunk_count=counts[0].live,
        staged_chunk_count=counts[0].staged,
        dimensions=record.dimensions,
        fields=record.fields.names(),
        create_time=created,
        max_embedder_tokens=record.max_tokens or default_tokens,
        building=beside.get(id(record.building)),
        previous=beside.get(id(record.previous)),
        store=STORES[record.store or default_store],
    )


def _index_message(record: CollectionRecord, chunks: int, default_tokens: int) -> pb.CollectionIndex:
    return pb.CollectionIndex(
        index_version=record.index_version,
        embedder=record.embedder,
        chunking=_chunking(record),
        max_embedder_tokens=record.max_tokens or default_tokens,
        chunk_count=chunks,
    )


def _chunking(record: CollectionRecord) -> pb.Chunking:
    splitter = next(number for number, splitter in _SPLITTERS.items() if splitter is record.splitter)
    return pb.Chunking(chunk_tokens=record.chunk_tokens, overlap_tokens=record.overlap_tokens, splitter=splitter)


def _to_splitter(chunking: pb.Chunking, field: str) -> Splitter | None:
    if chunking.splitter and chunking.splitter not in _SPLITTERS:
        raise InvalidInput(f"There is no splitter {chunking.splitter}.", field=field)
    return _SPLITTERS.get(chunking.splitter)
