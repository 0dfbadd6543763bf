"""The text that readers write: to a file, within a limit, with the places that its parts stand at."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import BinaryIO

from ingest.places import Part, Place
from mesh.errors import InvalidInput


class TextOutput:
    """Counts characters and bytes as they are written. InvalidInput when there are more than `max_bytes`."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._member = ""
        self.length = 0
        self.size_bytes = 0
        self.content = 0
        self.parts: list[Part] = []

    def write(self, text: str, *, is_content: bool = True) -> None:
        """Appends text; what UTF-8 cannot hold becomes `?`. A member's title is no content: it is not in the file."""
        data = text.encode("utf-8", "replace")
        self.size_bytes += len(data)
        if self.size_bytes > self._max_bytes:
            raise InvalidInput(f"The text has more than {self._max_bytes} bytes in UTF-8; split the file.")
        self._file.write(data)
        self.length += len(text)
        self.content += len(text.strip()) if is_content else 0

    def begin(self, place: Place) -> None:
        """What is written from here on stands at this place."""
        member = "/".join(part for part in (self._member, place.member) if part)
        self.parts.append(Part(self.length, replace(place, member=member)))

    @contextmanager
    def member(self, name: str, message: int = 0) -> Iterator[None]:
        """Within, all stands in this file of an archive or a mail; when an error leaves, nothing of it is kept."""
        outer, parts = self._member, len(self.parts)
        length, size_bytes, content = self.length, self.size_bytes, self.content
        self._member = "/".join(part for part in (outer, name) if part)
        self.begin(Place(message=message))
        try:
            yield
        except Exception:
            self._file.seek(size_bytes)
            self._file.truncate()
            self.length, self.size_bytes, self.content = length, size_bytes, content
            del self.parts[parts:]
            raise
        finally:
            self._member = outer
