"""Builders of requests."""

import uuid
from typing import Any

from google.protobuf.struct_pb2 import Struct

from murphey.retriever.v1 import filter_pb2
from murphey.retriever.v1 import retriever_pb2 as pb


def message(
    text: str, document: str = "a", version: str = "1", index: int = 0, collection: str = "default", **fields
) -> pb.Chunk:
    fields = {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{document}{version}{index}")),
        "document": f"collections/{collection}/documents/{document}",
        "version": version,
        "text": text,
        "index": index,
        "span": pb.Span(start=0, end=len(text)),
    } | fields
    return pb.Chunk(**fields)


def struct(**values: Any) -> Struct:
    made = Struct()
    made.update(values)
    return made


def on(field: str, **test: object) -> filter_pb2.Filter:
    condition = filter_pb2.FieldCondition(field=field, **test)  # pyright: ignore[reportArgumentType]
    return filter_pb2.Filter(must=[filter_pb2.Condition(field=condition)])
