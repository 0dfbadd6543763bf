"""Parsed text as a UTF-8 file: read by spans of characters without reading it whole, or block by block.

A `TextIndex` holds the byte at which every 4,096th character stands, and at which characters the parts of the document
(pages, sheets, messages) begin. Text of ASCII only needs no byte index: characters and bytes are the same there.
"""

import codecs
import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ingest.places import Part, Place, dump_parts, load_parts, pages

STRIDE_CHARACTERS = 4096
READ_BYTES = 1 << 18
BLOCK_CHARACTERS = 1 << 18
"""Text is cut into chunks block by block; a chunk never crosses from one block to the next."""

Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TextIndex:
    """Where characters and parts of a text stand. `byte_offsets[i]` is the byte of character `i * STRIDE_CHARACTERS`."""

    length: int
    size_bytes: int
    byte_offsets: Offsets
    parts: Sequence[Part] = field(default_factory=tuple)

    def byte_range(self, start: int, end: int) -> tuple[int, int, int]:
        """Bytes that hold `text[start:end]`, and how many characters in them stand before `start`."""
        if start == end:  # at the text's end no character stands, nor any offset
            return 0, 0, 0
        if self.length == self.size_bytes:
            return start, end, 0
        first, last = start // STRIDE_CHARACTERS, -(-end // STRIDE_CHARACTERS)
        stop = int(self.byte_offsets[last]) if last < len(self.byte_offsets) else self.size_bytes
        return int(self.byte_offsets[first]), stop, start - first * STRIDE_CHARACTERS

    def place(self, at: int) -> Place:
        """Where the character at `at` stands."""
        number = bisect_right(self.parts, at, key=lambda part: part.start)
        return self.parts[number - 1].place if number else Place()

    def span_place(self, start: int, end: int) -> Place:
        """Where a span stands: the place that it begins in; of a recording, the time from its begin to its end."""
        place = self.place(start)
        return replace(place, end_s=self.place(max(start, end - 1)).end_s) if place.end_s else place

    def page(self, at: int) -> int:
        """The page of the character at `at`, from 1; 0 where there are no pages."""
        return self.place(at).page

    def to_bytes(self) -> bytes:
        """As `from_bytes` reads it."""
        buffer = io.BytesIO()
        sizes = np.array([self.length, self.size_bytes], np.int64)
        parts = np.frombuffer(dump_parts(self.parts), np.uint8)
        np.savez(buffer, sizes=sizes, byte_offsets=self.byte_offsets, parts=parts)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "TextIndex":
        """What `to_bytes` wrote, now or when it knew of pages only."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            length, size_bytes = arrays["sizes"].tolist()
            known = arrays["parts"].tobytes() if "parts" in arrays else b""
            parts = load_parts(known) if known else pages(arrays["page_starts"].tolist())
            return cls(length, size_bytes, arrays["byte_offsets"], parts)

    @classmethod
    def of_ascii(cls, length: int) -> "TextIndex":
        """Of text without parts whose characters are all one byte."""
        return cls(length, length, np.zeros(1, np.int64))


def index_text(path: Path, parts: Sequence[Part]) -> TextIndex:
    """Reads a UTF-8 file once, in bounded memory."""
    offsets = [np.zeros(1, np.int64)]
    length = size_bytes = 0
    with path.open("rb") as file:
        while data := file.read(READ_BYTES):
            codes = np.frombuffer(data, np.uint8)
            starts = np.flatnonzero((codes & 0xC0) != 0x80)
            first = -length % STRIDE_CHARACTERS or (STRIDE_CHARACTERS if length == 0 else 0)
            offsets.append(starts[first::STRIDE_CHARACTERS].astype(np.int64) + size_bytes)
            length += len(starts)
            size_bytes += len(data)
    return TextIndex(length, size_bytes, np.concatenate(offsets), tuple(parts))


def decode_range(data: bytes, skip: int, characters: int) -> str:
    """The characters in bytes that `TextIndex.byte_range` named."""
    return data.decode("utf-8")[skip : skip + characters]


def read_blocks(path: Path) -> Iterator[str]:
    """The text of a UTF-8 file in blocks that together are the text; they end at a paragraph, a line or a word if they can."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    kept = ""
    with path.open("rb") as file:
        while data := file.read(READ_BYTES):
            kept += decoder.decode(data)
            while len(kept) > BLOCK_CHARACTERS:
                end = _block_end(kept)
                yield kept[:end]
                kept = kept[end:]
    kept += decoder.decode(b"", final=True)
    if kept:
        yield kept


def _block_end(text: str) -> int:
    for separator in ("\n\n", "\n", " "):
        at = text.rfind(separator, BLOCK_CHARACTERS // 2, BLOCK_CHARACTERS)
        if at >= 0:
            return at + len(separator)
    return BLOCK_CHARACTERS
