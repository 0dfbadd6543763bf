"""Times of messages as Python's: protobuf takes any two numbers for seconds and nanoseconds, and not all of them are a time."""

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mesh.errors import InvalidInput


def microseconds(time: Timestamp, field: str) -> int:
    """Since 1970. InvalidInput names the field of what is no time."""
    try:
        return time.ToMicroseconds()
    except ValueError as error:
        raise InvalidInput(f"{field} is no time: {error}", field=field) from error


def duration(time: Duration, field: str) -> timedelta:
    """InvalidInput names the field of what is no duration, or too long a one."""
    try:
        return time.ToTimedelta()
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"{field} is no duration that can be used: {error}", field=field) from error
