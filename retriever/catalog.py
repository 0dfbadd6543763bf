"""What is known of each collection and its indexes, kept over restarts. `FileCatalog` belongs to the embedded store."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from retriever.filters import Fields, Kind
from retriever.sparse import AUTO, DEFAULT_LANGUAGE
from retriever.whole_files import write_whole


class Splitter(StrEnum):
    """How text is split where it must be."""

    STRUCTURE = "structure"
    RECURSIVE = "recursive"
    SENTENCE = "sentence"


@dataclass(frozen=True, slots=True)
class CollectionRecord:
    """A collection, and the physical index that its name stands for; and those that stand beside it, which have none."""

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
    splitter: Splitter = Splitter.STRUCTURE
    max_tokens: int = 0
    """What its embedder reads of a text; 0 in records that were made before it was kept."""
    building: "CollectionRecord | None" = None
    """The index that will be the live one."""
    previous: "CollectionRecord | None" = None
    """The one that was."""
    languages: tuple[str, ...] = ()
    """Those that documents were found in, where `language` is `auto`."""
    store: str = ""
    """The store that has all its indexes, `edge` or `server`; empty: the one of the settings."""

    @property
    def word_languages(self) -> tuple[str, ...]:
        """The languages that a question's words are looked for in."""
        return (self.languages or (DEFAULT_LANGUAGE,)) if self.language == AUTO else (self.language,)

    @property
    def indexes(self) -> list["CollectionRecord"]:
        """All of them, the live one first."""
        return [self, *(index for index in (self.building, self.previous) if index is not None)]

    def placed(self, store: str) -> "CollectionRecord":
        """The same, in that store."""
        beside = {name: found and found.placed(store) for name in _BESIDE for found in [getattr(self, name)]}
        return replace(self, store=store, **beside)

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
        write_whole(self._path, json.dumps({key: to_json(record) for key, record in records.items()}, indent=2))


def to_json(record: CollectionRecord) -> dict[str, Any]:
    """As plain JSON values."""
    plain = {name: getattr(record, name) for name in CollectionRecord.__slots__}
    kinds = {key: sorted(kind.value for kind in found) for key, found in record.fields.kinds.items()}
    beside = {name: plain[name] and to_json(plain[name]) for name in _BESIDE}
    return plain | {"created": record.created.isoformat(), "fields": kinds} | beside


def from_json(plain: Mapping[str, Any]) -> CollectionRecord:
    """The record that `to_json` was given."""
    kinds = {key: frozenset(Kind(name) for name in names) for key, names in plain["fields"].items()}
    created = datetime.fromisoformat(plain["created"]).astimezone(UTC)
    beside = {name: from_json(plain[name]) for name in _BESIDE if plain.get(name)}
    splitter = Splitter(plain.get("splitter", Splitter.STRUCTURE))
    made = {"created": created, "fields": Fields(kinds), "splitter": splitter}
    made["languages"] = tuple(plain.get("languages", ()))
    return CollectionRecord(**{**plain, **made, **beside})


_BESIDE = ("building", "previous")
