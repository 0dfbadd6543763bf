"""Metadata as the contract carries it."""

from google.protobuf.struct_pb2 import Struct

from ingest.documents import Metadata


def to_struct(metadata: Metadata) -> Struct:
    """Metadata as a message."""
    struct = Struct()
    struct.update(metadata)
    return struct
