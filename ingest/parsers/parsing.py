"""One file to text: detects its type, has the right parser read it, and writes the text with its index."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ingest.documents import Metadata
from ingest.parsers import media_types
from ingest.parsers.plain_text import find_encoding, transcode
from ingest.texts import index_text
from mesh.errors import InvalidInput

TEXT_TYPES = (media_types.PLAIN, media_types.MARKDOWN)


@dataclass(frozen=True)
class Extracted:
    """What a parser found: the text, the character at which each page begins, and what the file says of itself."""

    text: str
    page_starts: list[int]
    found: Metadata


Extract = Callable[[bytes, str], Extracted]
"""Reads a document's bytes of a media type. InvalidInput says in a sentence why it cannot be read."""


@dataclass(frozen=True)
class ParsedFile:
    """A parsed file. `text_is_raw`: the raw file itself is the text, and no other was written."""

    media_type: str
    text_is_raw: bool
    has_index: bool
    text_bytes: int
    text_length: int
    page_count: int
    found: Metadata


def parse_file(path: Path, name: str, text: Path, index: Path, extract: Extract, max_text_bytes: int) -> ParsedFile:
    """Parses a file called `name`; writes UTF-8 to `text`, unless the file is that already, and a TextIndex to `index`."""
    media_type = media_types.detect_media_type(path, name)
    extracted = Extracted("", [], {})
    text_is_raw = False
    if media_type in TEXT_TYPES:
        encoding = find_encoding(path)
        text_is_raw = encoding == "utf-8"
        if not text_is_raw:
            transcode(path, encoding, text, max_text_bytes)
    else:
        extracted = extract(_bytes_of(path, media_type), media_type)
        text.write_text(extracted.text, "utf-8", "replace", newline="")
    text_index = index_text(path if text_is_raw else text, extracted.page_starts)
    if text_index.size_bytes > max_text_bytes:
        raise InvalidInput(f"The text has {text_index.size_bytes} bytes in UTF-8; {max_text_bytes} are taken.")
    has_index = bool(extracted.page_starts) or text_index.size_bytes != text_index.length
    if has_index:
        index.write_bytes(text_index.to_bytes())
    return ParsedFile(
        media_type, text_is_raw, has_index, text_index.size_bytes, text_index.length, len(extracted.page_starts),
        extracted.found,
    )  # fmt: skip


def _bytes_of(path: Path, media_type: str) -> bytes:
    """The content for a parser; text formats in UTF-8, whatever they were in."""
    data = path.read_bytes()
    if media_type in (media_types.CSV, media_types.TSV, media_types.HTML):
        encoding = find_encoding(path)
        if encoding != "utf-8":
            return data.decode(encoding, "replace").encode("utf-8", "replace")
    return data
