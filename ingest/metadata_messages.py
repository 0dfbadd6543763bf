"""Metadata as the contract carries it."""

from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from ingest.documents import Metadata
from mesh.errors import InvalidInput


def to_struct(metadata: Metadata) -> Struct:
    """Metadata as a message."""
    struct = Struct()
    struct.update(metadata)
    return struct


def from_struct(struct: Struct) -> dict[str, Any]:
    """What a message says, not checked yet. InvalidInput for numbers that JSON does not have."""
    try:
        return MessageToDict(struct)
    except ValueError as error:
        raise InvalidInput("The metadata holds a number that is not finite.", field="header.metadata") from error
