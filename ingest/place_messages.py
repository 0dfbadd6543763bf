"""Places of texts as messages."""

from ingest.places import Place
from mesh import place_messages, places
from murphey.retriever.v1 import retriever_pb2


def chunk_place(place: Place, table: int = 0, table_header: str = "") -> retriever_pb2.Place | None:
    """Where a chunk stands beyond its page; None when there is nothing to say."""
    return place_messages.place_message(
        places.Place(
            place.slide, place.sheet, table, table_header, place.message, place.member, place.start_s, place.end_s
        )
    )
