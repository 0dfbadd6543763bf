"""Places as messages and back, and as commands show them."""

from datetime import timedelta
from typing import Any

from google.protobuf.json_format import MessageToDict

from mesh.places import Place
from murphey.retriever.v1 import retriever_pb2 as pb

NANOSECONDS = 1e9


def to_place(message: pb.Place) -> Place:
    """A place; an unset message is none."""
    return Place(
        message.slide, message.sheet, message.table, message.table_header, message.message, message.member,
        message.start_time.ToNanoseconds() / NANOSECONDS, message.end_time.ToNanoseconds() / NANOSECONDS,
    )  # fmt: skip


def place_message(place: Place) -> pb.Place | None:
    """None for no place; times only where it has them."""
    message = pb.Place(
        slide=place.slide, sheet=place.sheet, table=place.table, table_header=place.table_header,
        message=place.message, member=place.member,
    )  # fmt: skip
    if place.end_s:
        message.start_time.FromNanoseconds(round(place.start_s * NANOSECONDS))
        message.end_time.FromNanoseconds(round(place.end_s * NANOSECONDS))
    return message if message.ByteSize() else None


def describe(page: int, place: pb.Place) -> str:
    """Such as `, page 3` or `, sheet Sales`; empty where the format has no places."""
    parts = [f"slide {place.slide}"] if place.slide else [f"page {page}"] if page else []
    if place.member:
        parts.insert(0, place.member)
    if place.sheet:
        parts.append(f"sheet {place.sheet}")
    if place.message:
        parts.append(f"message {place.message}")
    if place.HasField("end_time"):
        start, end = (timedelta(seconds=time.seconds) for time in (place.start_time, place.end_time))
        parts.append(f"{start} to {end}")
    if place.table:
        parts.append(f"table {place.table}")
    return "".join(f", {part}" for part in parts)


def to_json(place: pb.Place) -> dict[str, Any]:
    """What is set, for machines."""
    return MessageToDict(place, preserving_proto_field_name=True)
