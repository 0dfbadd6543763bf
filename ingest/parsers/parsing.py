"""One file to text: detects its type, has the right reader read it, and writes the text with its index."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ingest.documents import Metadata
from ingest.parsers import (
    archives,
    delimited,
    kreuzberg_extract,
    mail,
    media_types,
    ocr,
    open_presentation,
    pdf,
    records,
    speech,
    text_types,
)
from ingest.parsers.encodings import find_encoding, read_text, transcode
from ingest.parsers.output import TextOutput
from ingest.parsers.reading import Budget, Reader, ReadLimits, Source
from ingest.parsers.unpacking import UnpackedMember, unpack
from ingest.texts import index_text
from mesh.errors import InvalidInput

READERS: dict[str, Reader] = {
    media_types.PDF: pdf.read,
    media_types.MSG: mail.read_outlook,
    media_types.ODP: open_presentation.read,
    text_types.MAIL: mail.read_message,
    text_types.MBOX: mail.read_mailbox,
    text_types.CSV: delimited.read,
    text_types.TSV: delimited.read,
    text_types.JSON: records.read,
    text_types.NDJSON: records.read,
    **dict.fromkeys(media_types.IMAGES, ocr.read_image),
    **dict.fromkeys(media_types.ARCHIVES, archives.read),
    **dict.fromkeys(media_types.RECORDINGS, speech.read),
}
"""Those with a reader of their own; kreuzberg reads all others that are not text as they stand."""

_RAW_TEXTS = (text_types.PLAIN, text_types.MARKDOWN, text_types.RST, text_types.ORG)


@dataclass(frozen=True)
class ParsedFile:
    """A parsed file. `text_is_raw`: the raw file itself is the text, and no other was written.

    `members` are the files of an archive; its text only says what it holds.
    """

    media_type: str
    text_is_raw: bool
    has_index: bool
    text_bytes: int
    text_length: int
    page_count: int
    found: Metadata
    members: tuple[UnpackedMember, ...] = ()

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "ParsedFile":
        """What `dataclasses.asdict` made."""
        return cls(**{**values, "members": tuple(UnpackedMember(**member) for member in values["members"])})


def parse_file(
    path: Path, name: str, text: Path, index: Path, members: Path, recognizer: ocr.Recognizer,
    transcriber: speech.Transcriber, limits: ReadLimits,
) -> ParsedFile:  # fmt: skip
    """Parses a file called `name`; writes UTF-8 to `text`, unless the file is that already, and a TextIndex to `index`.

    The members of an archive are put into `members`, a folder that is made for them.
    InvalidInput or Unsupported say why it cannot be read; MoreTime how long recognising what is in it takes.
    """
    media_type = media_types.detect_media_type(path, name)
    source = Source(path, name, media_type, limits, Budget(limits), 0, recognizer, transcriber, _read_inner)
    if is_raw_text(media_type):
        return _parse_text(source, text, index)
    unpacked: tuple[UnpackedMember, ...] = ()
    try:
        with text.open("wb") as file:
            output = TextOutput(file, limits.max_text_bytes)
            if archives.is_container(path, media_type):
                found, unpacked = _unpack(source, members, output)
            else:
                found = _reader(media_type)(source, output)
    except records.NotRecords:
        return _parse_text(replace(source, media_type=text_types.PLAIN), text, index)
    if not output.content:
        raise InvalidInput("The document holds no text.")
    text_index = index_text(text, output.parts)
    index.write_bytes(text_index.to_bytes())
    return ParsedFile(
        media_type, False, True, text_index.size_bytes, text_index.length,
        max((part.place.page for part in output.parts), default=0), found, unpacked,
    )  # fmt: skip


def is_raw_text(media_type: str) -> bool:
    """Whether such a file is indexed as it stands."""
    return media_type in _RAW_TEXTS or text_types.is_code(media_type)


def _parse_text(source: Source, text: Path, index: Path) -> ParsedFile:
    limit, encoding = source.limits.max_text_bytes, find_encoding(source.path)
    text_is_raw = encoding == "utf-8"
    if not text_is_raw:
        transcode(source.path, encoding, text, limit)
    text_index = index_text(source.path if text_is_raw else text, [])
    if text_index.size_bytes > limit:
        raise InvalidInput(f"The text has {text_index.size_bytes} bytes in UTF-8; {limit} are taken.")
    has_index = text_index.size_bytes != text_index.length
    if has_index:
        index.write_bytes(text_index.to_bytes())
    return ParsedFile(source.media_type, text_is_raw, has_index, text_index.size_bytes, text_index.length, 0, {})


def _unpack(source: Source, folder: Path, output: TextOutput) -> tuple[Metadata, tuple[UnpackedMember, ...]]:
    unpacked = unpack(source.path, source.media_type, source.name, folder, source.limits)
    unpacked.describe(output)
    found: Metadata = {"members": len(unpacked.members), "members_not_read": len(unpacked.refused)}
    return found, tuple(unpacked.members.values())


def _reader(media_type: str) -> Reader:
    return READERS.get(media_type, kreuzberg_extract.read)


def _read_inner(source: Source, output: TextOutput) -> Metadata:
    """Reads a file within another one."""
    media_type = media_types.detect_media_type(source.path, source.name)
    source = replace(source, media_type=media_type)
    if is_raw_text(media_type):
        return _write_raw(source, output)
    try:
        return _reader(media_type)(source, output)
    except records.NotRecords:
        return _write_raw(source, output)


def _write_raw(source: Source, output: TextOutput) -> Metadata:
    """Text as it stands; code in a fence, so that its comments are not taken for headings."""
    fence = "```\n" if text_types.is_code(source.media_type) else ""
    output.write(fence + read_text(source.path).rstrip("\n") + ("\n" + fence if fence else "\n"))
    return {}
