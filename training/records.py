"""Records: pieces of text with what is known of them, and the files that hold them: JSON lines, compressed by zstandard.

Collecting writes such files and preparing reads and writes them. A line has the keys `id`, `text`, `source`, `licence`, `date`
and `metadata`. Which texts are wanted is not decided here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import zstandard

from mesh.errors import Corrupt, InvalidInput, NotFound
from training import disk
from training.zstd_frames import check_whole

SUFFIX = ".jsonl.zst"
SHARD_BYTES = 64 * 1024 * 1024
"""Text of one file, before compression; a task of preparation reads one file."""
MAX_LINE_BYTES = 64 * 1024 * 1024
_LEVEL = 3
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Record:
    """One text. `source` names where it is from, best by URL; `licence` is an SPDX identifier, or words where there is none;
    `date` is ISO 8601, of the text and not of its collection, and empty where it is not known.
    """

    id: str
    text: str
    source: str
    licence: str
    date: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> bytes:
        """The record as it stands in a file."""
        return orjson.dumps(
            {
                "id": self.id, "text": self.text, "source": self.source, "licence": self.licence, "date": self.date,
                "metadata": dict(self.metadata),
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )  # fmt: skip


class ShardWriter:
    """One file, there under its name whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = 0
        self.bytes = 0
        self._scratch = path.with_name(f".{path.name}.part")
        self._file = disk.create(self._scratch)
        self._stream = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).stream_writer(self._file)

    def write(self, record: Record) -> None:
        """Adds a record. FailedPrecondition when the disk is full."""
        line = record.line()
        with disk.full_is_told(self.path.parent):
            self._stream.write(line)
        self.records += 1
        self.bytes += len(line)

    def finish(self) -> None:
        """Puts the file under its name."""
        with disk.full_is_told(self.path.parent):
            self._stream.close()
            disk.settle(self._file)
        self._scratch.replace(self.path)

    def discard(self) -> None:
        """Leaves nothing behind."""
        self._file.close()
        self._scratch.unlink(missing_ok=True)


def shards(folder: Path) -> list[Path]:
    """The record files of a folder, by name. NotFound when there are none."""
    if not folder.is_dir():
        raise NotFound(f"{folder} is not a folder. Collect into it first: `murphey train collect --help`.")
    found = sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))
    if not found:
        raise NotFound(f"{folder} holds no {SUFFIX} files. Collect into it first: `murphey train collect --help`.")
    return found


def check(paths: Sequence[Path]) -> None:
    """Looks at every file before long work, without unpacking. Corrupt when one is truncated."""
    for path in paths:
        check_whole(path)


def read(path: Path) -> Iterator[Record]:
    """The records of a file. Corrupt when it is damaged; InvalidInput for a line that is no record."""
    for number, line in enumerate(lines(path), start=1):
        yield _record(line, path, number)


def lines(path: Path, max_bytes: int = MAX_LINE_BYTES) -> Iterator[bytes]:
    """The lines of a zstandard file, without their ends, in bounded memory. Corrupt when it is damaged or a line is longer."""
    rest = bytearray()
    with path.open("rb") as file:
        stream = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(file, read_across_frames=True)
        try:
            while piece := stream.read(_PIECE_BYTES):
                rest += piece
                *whole, last = rest.split(b"\n")
                yield from map(bytes, whole)
                rest = bytearray(last)
                if len(rest) > max_bytes:
                    raise Corrupt(f"{path} has a line of more than {max_bytes} bytes; it is not JSON lines.")
        except zstandard.ZstdError as error:
            raise Corrupt(f"{path} is damaged: {error}. Fetch or make it again.") from error
    if rest:
        yield bytes(rest)


def _record(line: bytes, path: Path, number: int) -> Record:
    try:
        value = orjson.loads(line)  # which takes no half of a surrogate pair, as no tokenizer does
        known = {name: value.get(name, "") for name in ("id", "text", "source", "licence", "date")}
        if not all(isinstance(each, str) for each in known.values()):
            raise TypeError
        metadata = value.get("metadata", {})
        return Record(**known, metadata=metadata if isinstance(metadata, dict) else {})
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidInput(f"{path}, line {number}: not a record. It needs the text keys id and text.") from error
