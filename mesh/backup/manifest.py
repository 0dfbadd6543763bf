"""What a backup consists of. The manifest is written last: a backup is there, whole, when its manifest is.

All else lies in blobs that are named by the SHA-256 of their bytes, and in files; backups of one place share both.
"""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mesh.errors import Corrupt, FailedPrecondition

FORMAT = 1
"""Counts up when an older Murphey could not read it."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TableCopy(_Part):
    """The rows of a table: blobs of JSON lines, in the order of the primary key."""

    name: str
    columns: list[str]
    rows: int
    parts: list[str]


class DatabaseCopy(_Part):
    """A room's tables, as they were at one instant, at a revision of its migrations."""

    room: str
    revision: str
    tables: list[TableCopy]


class IndexCopy(_Part):
    """Chunks with their vectors. On top of `parts` come those in `newer`, in place of all chunks of the documents in `replaced`
    (a blob of JSON lines): what was written to meanwhile, or is gone."""

    index: str
    dimensions: int
    live: int
    staged: int
    parts: list[str]
    staged_parts: list[str]
    replaced: list[str]
    newer: list[str]
    newer_staged: list[str]


class CollectionCopy(_Part):
    """A collection as the retriever's catalog has it, and all its indexes."""

    record: dict[str, Any]
    indexes: list[IndexCopy]


class FilesCopy(_Part):
    """Files, in blobs of JSON lines: `key`, `path` in the backups' place, `size`, `sha256`."""

    count: int
    size_bytes: int
    lists: list[str]


class Manifest(_Part):
    """A backup."""

    format: int
    id: str
    created: datetime
    murphey: str
    databases: list[DatabaseCopy]
    collections: list[CollectionCopy]
    objects: FilesCopy
    records: FilesCopy
    """Audit logs and evaluations, by their paths in the data folder."""

    @property
    def chunks(self) -> int:
        """In all indexes, those that wait to be published too."""
        return sum(index.live + index.staged for each in self.collections for index in each.indexes)

    @property
    def rows(self) -> int:
        """In all tables."""
        return sum(table.rows for database in self.databases for table in database.tables)

    def blobs(self) -> set[str]:
        """The names of all blobs."""
        found = {part for database in self.databases for table in database.tables for part in table.parts}
        for index in (index for each in self.collections for index in each.indexes):
            found.update(index.parts, index.staged_parts, index.replaced, index.newer, index.newer_staged)
        return found.union(self.objects.lists, self.records.lists)

    def summary(self) -> dict[str, Any]:
        """For people."""
        return {
            "backup": self.id, "created": self.created.isoformat(timespec="seconds"), "murphey": self.murphey,
            "rows": self.rows, "collections": len(self.collections), "chunks": self.chunks,
            "files": self.objects.count + self.records.count,
            "file_bytes": self.objects.size_bytes + self.records.size_bytes,
        }  # fmt: skip


def read_manifest(name: str, content: bytes) -> Manifest:
    """Corrupt for what is none; FailedPrecondition for one that a newer Murphey wrote."""
    try:
        head = _Head.model_validate_json(content)
        if head.format > FORMAT:
            raise FailedPrecondition(
                f"The backup {name} has the format {head.format}, written by Murphey {head.murphey}; this one reads up to "
                f"{FORMAT}. Restore it with Murphey {head.murphey} or newer."
            )
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise Corrupt(f"The manifest of the backup {name} is damaged: {error.error_count()} errors.") from error


class _Head(BaseModel):
    format: int
    murphey: str = "unknown"


def new_id(random: str) -> str:
    """Later ones sort last."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z-{random}"
