"""Bounds of what one call may hold."""

import math
from collections.abc import Sequence

from mesh.errors import InvalidInput

MAX_QUERY_CHARACTERS, MAX_CHUNK_CHARACTERS = 32_768, 65_536


def check_count(field: str, count: int, most: int) -> None:
    """InvalidInput unless there are 1 to `most`."""
    if not 1 <= count <= most:
        raise InvalidInput(f"{field} has {count} items; it must have 1 to {most:,}.", field=field)


def within(field: str, value: int, least: int, most: int) -> int:
    """The value; InvalidInput unless it is `least` to `most`."""
    if not least <= value <= most:
        raise InvalidInput(f"{field} is {value}; it must be {least} to {most:,}.", field=field)
    return value


def finite(field: str, value: float) -> float:
    """The value; InvalidInput for NaN and infinity."""
    if not math.isfinite(value):
        raise InvalidInput(f"{field} is {value}; it must be a finite number.", field=field)
    return value


def question_text(text: str, field: str = "text") -> str:
    """The text; InvalidInput when it is empty or too long."""
    if not text.strip():
        raise InvalidInput("The question is empty.", field=field)
    if len(text) > MAX_QUERY_CHARACTERS:
        raise InvalidInput(
            f"The question has {len(text):,} characters; {MAX_QUERY_CHARACTERS:,} is the most.", field=field
        )
    return text


def check_texts(texts: Sequence[str]) -> None:
    """InvalidInput for a text that is too long."""
    for row, text in enumerate(texts):
        if len(text) > MAX_CHUNK_CHARACTERS:
            raise InvalidInput(
                f"The text has {len(text):,} characters; {MAX_CHUNK_CHARACTERS:,} is the most.", field=f"texts[{row}]"
            )
