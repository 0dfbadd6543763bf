"""Where in a parsed document a piece of text stands, and how a text's places are kept."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mesh import places


@dataclass(frozen=True)
class Place(places.Place):
    """The place that a text begins in, its page included, from 1; 0 for none."""

    page: int = 0

    def to_json(self) -> dict[str, Any]:
        """Only what is set."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True)
class Part:
    """From this character on, up to the next part, the text stands at this place."""

    start: int
    place: Place


def pages(starts: Sequence[int]) -> list[Part]:
    """Parts for pages that begin at these characters."""
    return [Part(start, Place(page=number)) for number, start in enumerate(starts, 1)]


def dump_parts(parts: Sequence[Part]) -> bytes:
    """As `load_parts` reads it."""
    return json.dumps([[part.start, part.place.to_json()] for part in parts], ensure_ascii=False).encode()


def load_parts(data: bytes) -> list[Part]:
    """What `dump_parts` wrote."""
    return [Part(start, Place(**place)) for start, place in json.loads(data)]
