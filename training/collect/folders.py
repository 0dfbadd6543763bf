"""Local folders of text files, in any encoding. What is not text, whatever its name, is left out.

PDF, Office and other documents are read by ingest: take them into a collection and collect that.
"""

import codecs
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingest.parsers.encodings import find_encoding
from mesh.errors import InvalidInput, NotFound, Unsupported
from training.collect.collectors import Found, Position
from training.records import Record

MAX_CHARACTERS = 1_000_000
"""Of a record; a longer text becomes several, cut between paragraphs, lines or words."""
_READ_BYTES = 1 << 18
_CUTS = ("\n\n", "\n", " ")
_ALL = -1


@dataclass(frozen=True)
class _Place:
    """How far a folder was read: `parts` of a file, or _ALL of it."""

    path: str
    parts: int

    def position(self) -> str:
        return f"{self.parts}:{self.path}"

    @classmethod
    def read(cls, position: Position) -> "_Place | None":
        if not isinstance(position, str):
            return None
        parts, _, path = position.partition(":")
        return cls(path, int(parts))


class Folder:
    """A folder as a collector."""

    name = "folder"

    def __init__(self, folder: Path, licence: str) -> None:
        self._folder, self._licence = folder.absolute(), licence
        self._bytes = 0

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"folder": str(self._folder), "licence": self._licence}

    @property
    def total(self) -> int | None:
        return self._bytes

    def check(self) -> int:
        """NotFound without a folder, InvalidInput for one without files."""
        if not self._folder.is_dir():
            raise NotFound(f"There is no folder {self._folder}.")
        sizes = [path.stat().st_size for path in _files(self._folder)]
        if not sizes:
            raise InvalidInput(f"{self._folder} holds no files.")
        self._bytes = sum(sizes)
        return self._bytes // 2

    def find(self, after: Position) -> Iterator[Found]:
        done, last = 0, _Place.read(after)
        for path in _files(self._folder):
            relative = path.relative_to(self._folder)
            done += path.stat().st_size
            passed = 0
            if last is not None:
                before = Path(last.path).parts
                if relative.parts < before or (relative.parts == before and last.parts == _ALL):
                    continue
                passed = last.parts if relative.parts == before else 0
            yield from self._of(path, relative, passed, done)

    def _of(self, path: Path, relative: Path, passed: int, done: int) -> Iterator[Found]:
        end = _Place(relative.as_posix(), _ALL).position()
        try:
            parts = list_parts(path)
            found = 0
            for number, text in enumerate(parts, start=1):
                found = number
                if number > passed and text.strip():
                    place = _Place(relative.as_posix(), number).position()
                    yield Found(place, self._record(path, relative, number, text), done=done)
        except Unsupported:
            yield Found(end, dropped="not text", done=done)
            return
        except OSError:
            yield Found(end, dropped="cannot be read", done=done)
            return
        yield Found(end, dropped="" if found else "no text", done=done)

    def _record(self, path: Path, relative: Path, number: int, text: str) -> Record:
        changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
        part = f"#{number}" if number > 1 else ""
        name = relative.as_posix().encode(errors="backslashreplace").decode()
        return Record(f"folder/{name}{part}", text.strip(), f"{path.as_uri()}", self._licence, changed, {"name": name})


def list_parts(path: Path) -> Iterator[str]:
    """A file's text in pieces of at most MAX_CHARACTERS. Unsupported when it is not text."""
    decoder = codecs.getincrementaldecoder(find_encoding(path))(errors="replace")
    text = ""
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            text += decoder.decode(data)
            while len(text) > MAX_CHARACTERS:
                cut = _cut(text)
                yield text[:cut]
                text = text[cut:]
    text += decoder.decode(b"", final=True)
    if text.strip():
        yield text


def _cut(text: str) -> int:
    """Where a long text ends best: at the last mark in the second half of what is allowed."""
    for mark in _CUTS:
        found = text.rfind(mark, MAX_CHARACTERS // 2, MAX_CHARACTERS)
        if found > 0:
            return found + len(mark)
    return MAX_CHARACTERS


def _files(folder: Path) -> Iterator[Path]:
    """Files below a folder, hidden ones left out, in the order of their paths. Links to folders are not followed."""
    with os.scandir(folder) as entries:
        ordered = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in ordered:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)
