"""Records in and out of datatrove's pipelines."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from training.records import SHARD_BYTES, SUFFIX, Record, ShardWriter, lines

MAX_TEXT_CHARACTERS = 5_000_000
"""A longer text is no document; what a step needs of memory grows with the longest."""
_OWN = ("source", "licence", "date")
_TOLD_EVERY_S = 0.5


class ReadRecords(PipelineStep):
    """Each task reads one of `paths`, by its rank; a file that is not there has no documents. `told` is a folder into which
    every task writes how many bytes of text it has read.
    """

    type, name = "READ", "read"

    def __init__(self, paths: list[Path], told: Path) -> None:
        super().__init__()
        self.paths, self.told = paths, told

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:  # pyright: ignore
        path, read, due = self.paths[rank], 0, 0.0
        if not path.exists():
            return
        self.told.mkdir(parents=True, exist_ok=True)
        for line in lines(path):
            read += len(line)
            if time.monotonic() >= due:
                (self.told / str(rank)).write_text(str(read))
                due = time.monotonic() + _TOLD_EVERY_S
            document, dropped = _read(line)
            if document is None:
                self.stat_update("dropped", f"dropped_{dropped}")
            else:
                yield document


class WriteRecords(PipelineStep):
    """Writes every document and gives it on. Each task writes files of its own, named by its rank: exactly one where
    `shard_bytes` is None, even when it has no documents.
    """

    type, name = "WRITE", "write"

    def __init__(self, folder: Path, shard_bytes: int | None = SHARD_BYTES) -> None:
        super().__init__()
        self.folder, self.shard_bytes = folder, shard_bytes

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:  # pyright: ignore
        number, writer = 0, self._open(rank, 0) if self.shard_bytes is None else None
        try:
            for document in data:
                writer = writer or self._open(rank, number)
                writer.write(to_record(document))
                if self.shard_bytes is not None and writer.bytes >= self.shard_bytes:
                    writer.finish()
                    number, writer = number + 1, None
                yield document
        except BaseException:
            if writer:
                writer.discard()
            raise
        if writer:
            writer.finish()

    def _open(self, rank: int, number: int) -> ShardWriter:
        name = f"{rank:05d}" if self.shard_bytes is None else f"{rank:05d}-{number:03d}"
        return ShardWriter(self.folder / f"{name}{SUFFIX}")


def task_file(folder: Path, rank: int) -> Path:
    """The one file that a task wrote."""
    return folder / f"{rank:05d}{SUFFIX}"


def to_record(document: Document) -> Record:
    """The document as it is stored."""
    metadata = dict(document.metadata)
    source, licence, date = (str(metadata.pop(name, "")) for name in _OWN)
    return Record(document.id, document.text, source, licence, date, metadata)


def is_code(document: Document) -> bool:
    """Whether it is source code, to which no rule for prose applies; collecting has looked at it already."""
    return "repository" in document.metadata and "path" in document.metadata


def _read(line: bytes) -> tuple[Document | None, str]:
    """The document of a line, or why there is none."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None, "no record"
    if not isinstance(value, dict):
        return None, "no record"
    text, metadata = value.get("text"), value.get("metadata")
    if not isinstance(text, str) or not text.strip():
        return None, "no text"
    if len(text) > MAX_TEXT_CHARACTERS:
        return None, "too long"
    known = {name: value.get(name, "") for name in _OWN}
    return Document(
        text, str(value.get("id", "")), metadata=(metadata if isinstance(metadata, dict) else {}) | known
    ), ""
