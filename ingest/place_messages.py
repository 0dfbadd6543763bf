"""Places of texts as messages."""

from dataclasses import replace

from ingest.places import Place
from mesh.place_messages import place_message
from murphey.retriever.v1 import retriever_pb2


def chunk_place(place: Place, table: int = 0, table_header: str = "") -> retriever_pb2.Place | None:
    """Where a chunk stands beyond its page; None when there is nothing to say."""
    return place_message(replace(place, table=table, table_header=table_header))
