"""What every reader of a format is given, and what it gives back."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.documents import Metadata
from ingest.parsers.encodings import read_text
from ingest.parsers.output import TextOutput
from mesh.errors import InvalidInput, MurpheyError

if TYPE_CHECKING:
    from ingest.parsers.ocr import Recognizer
    from ingest.parsers.speech import Transcriber


@dataclass(frozen=True)
class ReadLimits:
    """How much of a file is read. Unpacked sizes count all members of an archive, and those of archives in it."""

    max_text_bytes: int
    max_pages: int = 20_000
    max_members: int = 1_000
    max_unpacked_bytes: int = 1 << 30
    max_ratio: int = 200
    max_depth: int = 3


class MoreTime(Exception):
    """Raised instead of beginning work that takes longer than parsing, where time for it was not given: how many seconds."""

    def __init__(self, time_s: float) -> None:
        super().__init__(time_s)
        self.time_s = time_s


class LimitExceeded(InvalidInput):
    """A limit of the whole file, so that no member after it is read either."""


class Budget:
    """What is left of the limits on unpacking, over all levels of a file."""

    def __init__(self, limits: ReadLimits) -> None:
        self._members = limits.max_members
        self._bytes = limits.max_unpacked_bytes
        self._limits = limits

    def take_member(self) -> None:
        """InvalidInput for one member too many."""
        self._members -= 1
        if self._members < 0:
            raise LimitExceeded(
                f"The archive holds more than {self._limits.max_members} files; unpack it and upload them."
            )

    def take_bytes(self, count: int) -> None:
        """InvalidInput for one byte too many."""
        self._bytes -= count
        if self._bytes < 0:
            raise LimitExceeded(
                f"The archive unpacks to more than {self._limits.max_unpacked_bytes} bytes; it was not read."
            )


@dataclass(frozen=True)
class Source:
    """A file to read: its content in `path`, what it is called, what it is, and within which limits it is read.

    `read_inner` reads a file that this one holds: as the whole is read, one level deeper. `ocr` recognises text in an image,
    `speech` what is said in a recording; both raise Unsupported where that is not set up.
    """

    path: Path
    name: str
    media_type: str
    limits: ReadLimits
    budget: Budget
    depth: int
    ocr: "Recognizer"
    speech: "Transcriber"
    read_inner: "Callable[[Source, TextOutput], Metadata]"

    def data(self) -> bytes:
        """All bytes."""
        return self.path.read_bytes()

    def text(self) -> str:
        """All text, whatever its encoding is."""
        return read_text(self.path)

    def read_data(self, data: bytes, name: str, output: TextOutput) -> None:
        """Reads a file that this one holds, of which these are the bytes."""
        with tempfile.NamedTemporaryFile(dir=self.path.parent, prefix="member-") as file:
            file.write(data)
            file.flush()
            self.read_path(Path(file.name), name, output)

    def read_path(self, path: Path, name: str, output: TextOutput) -> None:
        """Reads a file that this one holds, of which `path` is a copy."""
        if self.depth >= self.limits.max_depth:
            raise InvalidInput(f"It lies more than {self.limits.max_depth} archives deep, which is not read.")
        self.read_inner(replace(self, path=path, name=name, media_type="", depth=self.depth + 1), output)


Reader = Callable[[Source, TextOutput], Metadata]
"""Writes a file's text and answers what the file says of itself. InvalidInput says in a sentence why it cannot be read."""


def reason(error: MurpheyError) -> str:
    """An error's sentence, to be named in the text of the file around it."""
    return error.message.split(". ")[0].rstrip(".")
