"""What is known of each collection, kept over restarts. This file's `FileCatalog` belongs to the embedded store."""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from retriever.filters import Fields, Kind


@dataclass(frozen=True, slots=True)
class CollectionRecord:
    """A collection, and the physical index that its name stands for."""

    id: str
    embedder: str
    embedder_version: str
    dimensions: int
    chunk_tokens: int
    overlap_tokens: int
    language: str
    index: str
    """Physical index in the store: the collection's id and the index version."""
    created: datetime
    fields: Fields = field(default_factory=Fields)
    max_tokens: int = 0
    """What its embedder reads of a text; 0 in records that were made before it was kept."""

    @property
    def index_version(self) -> str:
        """Changes when embedder, chunking or language change."""
        return self.index.removeprefix(f"{self.id}--")


class Catalog(Protocol):
    """Records by collection id. A put survives a crash once it returns."""

    async def load(self) -> dict[str, CollectionRecord]:
        """All records, as they are now."""
        ...

    async def put(self, record: CollectionRecord) -> None:
        """Adds or replaces one."""
        ...

    async def remove(self, collection: str) -> None:
        """Forgets one."""
        ...


class FileCatalog:
    """A JSON file, replaced whole at each change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = asyncio.Lock()

    async def load(self) -> dict[str, CollectionRecord]:
        return await asyncio.to_thread(self._read)

    async def put(self, record: CollectionRecord) -> None:
        async with self._lock:
            records = await asyncio.to_thread(self._read)
            await asyncio.to_thread(self._write, {**records, record.id: record})

    async def remove(self, collection: str) -> None:
        async with self._lock:
            records = await asyncio.to_thread(self._read)
            records.pop(collection, None)
            await asyncio.to_thread(self._write, records)

    def _read(self) -> dict[str, CollectionRecord]:
        if not self._path.exists():
            return {}
        return {key: from_json(value) for key, value in json.loads(self._path.read_text()).items()}

    def _write(self, records: dict[str, CollectionRecord]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._path.with_suffix(".new")
        with scratch.open("w") as file:
            json.dump({key: to_json(record) for key, record in records.items()}, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._path)


def to_json(record: CollectionRecord) -> dict[str, Any]:
    """As plain JSON values."""
    plain = {name: getattr(record, name) for name in CollectionRecord.__slots__}
    kinds = {key: sorted(kind.value for kind in found) for key, found in record.fields.kinds.items()}
    return plain | {"created": record.created.isoformat(), "fields": kinds}


def from_json(plain: Mapping[str, Any]) -> CollectionRecord:
    """The record that `to_json` was given."""
    kinds = {key: frozenset(Kind(name) for name in names) for key, names in plain["fields"].items()}
    created = datetime.fromisoformat(plain["created"]).astimezone(UTC)
    return CollectionRecord(**{**plain, "created": created, "fields": Fields(kinds)})
