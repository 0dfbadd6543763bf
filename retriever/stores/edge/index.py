"""The indexes of a folder, each with the shard that is current, kept whole over crashes. Runs inside the engine's process."""

import json
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from mesh import logs
from mesh.errors import NotFound
from retriever.chunks import DocumentVersion
from retriever.filters import Kind
from retriever.stores import conditions
from retriever.stores.base import Counts, IndexedChunk, Selection, StoreQuery, Window
from retriever.stores.edge import shard as shards
from retriever.stores.edge.shard import EDGE, FoundPoint, Payload, Shard

log = logs.get(__name__)

_CURRENT = "current"
_PUBLISHING = "publishing"


class Index:
    """One index: `current` in its folder names the sub-folder of the shard in use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shard = Shard.load(folder / (folder / _CURRENT).read_text())
        self._unflushed = False
        self._finish_publish()

    @classmethod
    def create(cls, folder: Path, dimensions: int) -> "Index":
        """A new one, or the one that is there."""
        if not (folder / _CURRENT).exists():
            shutil.rmtree(folder, ignore_errors=True)
            name = uuid.uuid4().hex
            Shard.create(folder / name, dimensions).close()
            write_atomically(folder / _CURRENT, name)
        return cls(folder)

    def search(self, queries: Sequence[StoreQuery]) -> list[list[FoundPoint]]:
        """The answers to a batch."""
        return self._shard.search(queries)

    def search_one(self, query: StoreQuery) -> list[FoundPoint]:
        """The answer to one."""
        return self._shard.search([query])[0]

    def windows(self, windows: Sequence[Window]) -> list[tuple[str, Payload]]:
        """The published chunks in any of the windows."""
        return self._shard.windows(windows)

    def upsert(self, chunks: Sequence[IndexedChunk], staged: bool) -> None:
        """Stores all or none."""
        self._apply([shards.upsert_operation(chunks, staged=staged)])

    def publish(self, versions: Sequence[DocumentVersion]) -> int:
        """Both steps happen, even when the process dies between them."""
        removed = self._shard.count(conditions.of_other_versions(list(versions), EDGE))
        intent = [[version.document, version.version] for version in versions]
        write_atomically(self._folder / _PUBLISHING, json.dumps(intent))
        self._apply(shards.publish_operations(versions))
        (self._folder / _PUBLISHING).unlink()
        return removed

    def delete(self, selection: Selection) -> int:
        """Removes what is selected."""
        deleted = self._shard.count(conditions.selected(selection, EDGE))
        if deleted:
            self._apply([shards.delete_operation(selection)])
        return deleted

    def add_fields(self, fields: Sequence[tuple[str, Kind]]) -> None:
        """Indexes metadata keys."""
        self._apply(shards.field_operations(fields))

    def count(self) -> Counts:
        """Exact counts."""
        return self._shard.counts()

    def keep_house(self) -> None:
        """Between requests: writes segments down, so that opening the index stays fast."""
        if self._unflushed:
            self._shard.flush()
            self._unflushed = False

    def close(self) -> None:
        """Writes everything down."""
        self._shard.flush()
        self._shard.close()

    def _apply(self, operations: Sequence[shards.q.UpdateOperation]) -> None:
        for operation in operations:
            self._shard.apply(operation)
        self._unflushed = True

    def _finish_publish(self) -> None:
        path = self._folder / _PUBLISHING
        if path.exists():
            versions = [DocumentVersion(*pair) for pair in json.loads(path.read_text())]
            self._apply(shards.publish_operations(versions))
            path.unlink()


class Indexes:
    """All indexes under a folder; opened when first used."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[str, Index] = {}
        root.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Indexes":
        return self

    def __exit__(self, *_: object) -> None:
        for index in self._open.values():
            index.close()

    def ping(self) -> bool:
        """Whether anyone is there."""
        return True

    def create(self, name: str, dimensions: int) -> None:
        """Makes an index; one that is there stays."""
        if name not in self._open:
            self._open[name] = Index.create(self._root / name, dimensions)

    def drop(self, name: str) -> None:
        """Deletes an index: unnamed first, so that a crash leaves no half of it."""
        index = self._open.pop(name, None)
        if index is not None:
            index.close()
        (self._root / name / _CURRENT).unlink(missing_ok=True)
        shutil.rmtree(self._root / name, ignore_errors=True)

    def open(self, name: str) -> Index:
        """The index; NotFound when there is none."""
        if name not in self._open:
            if not (self._root / name / _CURRENT).exists():
                raise NotFound(f"There is no index {name!r}.")
            self._open[name] = Index(self._root / name)
        return self._open[name]

    def keep_house(self) -> None:
        """What can wait until nothing else is to be done."""
        for index in self._open.values():
            index.keep_house()


def write_atomically(path: Path, text: str) -> None:
    """Whole or not at all."""
    scratch = path.with_suffix(".new")
    scratch.write_text(text)
    scratch.replace(path)
