"""The indexes of a folder, each with the shard that is current, kept whole over crashes. Runs inside the engine's process."""

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mesh import logs
from mesh.errors import NotFound
from retriever.chunks import Description, DocumentVersion
from retriever.filters import Kind
from retriever.stores import conditions
from retriever.stores.base import Counts, IndexedChunk, OfIds, Selection, StoreQuery, Window
from retriever.stores.edge import shard as shards
from retriever.stores.edge.optimizer import Phase, Rebuild
from retriever.stores.edge.shard import EDGE, FoundPoint, Payload, Shard
from retriever.stores.edge.staging import Staging

log = logs.get(__name__)

FLUSH_AFTER_S = 3.0
"""How long the engine's log may grow: it is read again when an index is opened after a crash."""
CHUNKS_AT_ONCE = 256
"""Published in one step: searches wait for it, about 10 ms."""
REBUILD_FRACTION = 0.3
WRITING_FACTOR = 5
"""How much more may be searched one by one while chunks keep coming: opening a rebuilt shard holds searches up, so a bulk
ingest causes few rebuilds, and one when it has ended."""
RETRY_REBUILD_S = 60.0
_CURRENT = "current"


class Index:
    """One index: `current` in its folder names the sub-folder of the shard in use; every other sub-folder is refuse."""

    def __init__(self, folder: Path, limits: "Limits", wake: Callable[[], None]) -> None:
        self._folder, self._limits, self._wake = folder, limits, wake
        self._name = (folder / _CURRENT).read_text()
        self._shard = Shard.load(folder / self._name)
        self._rebuild: Rebuild | None = None
        self._retry_at = 0.0
        self._flush_at: float | None = None
        self._written_at = 0.0
        self._deleted = 0
        self._never_indexed = 0
        self._hidden: shards.q.Filter | None = None
        self._staging = Staging(folder / "staged.sqlite")
        self._remove_refuse()
        for _ in self._finish_publishing():
            pass

    @classmethod
    def create(cls, folder: Path, dimensions: int, limits: "Limits", wake: Callable[[], None]) -> "Index":
        """A new one, or the one that is there."""
        if not (folder / _CURRENT).exists():
            shutil.rmtree(folder, ignore_errors=True)
            name = uuid.uuid4().hex
            Shard.create(folder / name, dimensions).close()
            write_atomically(folder / _CURRENT, name)
        return cls(folder, limits, wake)

    @property
    def writable(self) -> bool:
        """False for the moment in which the shard is copied."""
        return self._rebuild is None or self._rebuild.phase is not Phase.COPYING

    def search(self, queries: Sequence[StoreQuery]) -> list[list[FoundPoint]]:
        """The answers to a batch."""
        return self._shard.search(queries, self._hidden)

    def search_one(self, query: StoreQuery) -> list[FoundPoint]:
        """The answer to one."""
        return self.search([query])[0]

    def windows(self, windows: Sequence[Window]) -> list[tuple[str, Payload]]:
        """The published chunks in any of the windows."""
        return self._shard.windows(windows)

    def upsert(self, chunks: Sequence[IndexedChunk], staged: bool) -> None:
        """Stores all or none."""
        if staged:
            self._staging.put(chunks)
        else:
            self._apply(shards.upsert_operation(chunks))
            self._staging.delete(OfIds(tuple(item.chunk.id for item in chunks)))

    def publish(self, versions: Sequence[DocumentVersion]) -> Iterator[int | None]:
        """Goes on in steps, so that searches come between them; the last step gives the number of chunks removed."""
        self._staging.intend(versions)
        yield from self._finish_publishing()

    def describe(self, descriptions: Sequence[Description]) -> int:
        """Gives published versions other metadata."""
        updated = 0
        for description in descriptions:
            count = self._shard.count(conditions.of_versions([description.version], EDGE))
            if count:
                self._apply(shards.describe_operation(description))
            updated += count
        return updated

    def delete(self, selection: Selection) -> int:
        """Removes what is selected, here and among the staged."""
        condition = conditions.selected(selection, EDGE)
        deleted = self._shard.count(condition)
        if deleted:
            self._apply(shards.delete_operation(selection))
            self._deleted += deleted
        return deleted + self._staging.delete(selection)

    def add_fields(self, fields: Sequence[tuple[str, Kind]]) -> None:
        """Indexes metadata keys."""
        for operation in shards.field_operations(fields):
            self._apply(operation)

    def vectors(self, ids: Sequence[str]) -> list[tuple[str, Payload, list[float]]]:
        """Those of these chunks that are there, published or staged."""
        return [*self._staging.vectors(ids), *self._shard.vectors(ids)]

    def versions(self, after: str | None) -> tuple[list[DocumentVersion], str | None]:
        """The version of each published chunk on a page, and where the next page begins."""
        return self._shard.versions(after)

    def staged_versions(self) -> dict[DocumentVersion, int]:
        """How many chunks of each version wait to be published."""
        return self._staging.versions()

    def count(self) -> Counts:
        """Exact counts."""
        return Counts(live=self._shard.sizes()[0], staged=self._staging.count())

    def keep_house(self) -> bool:
        """A step of what is to be done besides requests; False when there is nothing now."""
        if self._rebuild is not None:
            worked = self._rebuild.step()
            self._settle(self._rebuild)
            return worked
        if self._flush_at is not None and time.monotonic() >= self._flush_at:
            self._shard.flush()
            self._flush_at = None
            self._rebuild_when_due()
        return False

    def close(self) -> None:
        """Writes everything down."""
        if self._rebuild is not None:
            self._rebuild.abandon()
        self._shard.flush()
        self._shard.close()
        self._staging.close()

    def _apply(self, operation: shards.q.UpdateOperation) -> None:
        self._shard.apply(operation)
        if self._rebuild is not None:
            self._rebuild.record(operation)
        self._written_at = time.monotonic()
        if self._flush_at is None:
            self._flush_at = self._written_at + FLUSH_AFTER_S

    def _finish_publishing(self) -> Iterator[int | None]:
        """What was intended, be it just now or before a crash: store the new, then drop the old and show the new at once."""
        live = self._shard.count
        intended = self._staging.intended()
        shown = {version for version in intended if live(conditions.of_versions([version], EDGE))}
        versions = [version for version in intended if version in shown or self._staging.has(version)]
        if not versions:  # what a worker sends late, for a version that has been replaced or deleted, changes nothing
            self._staging.finish(intended)
            if intended:
                yield 0
            return
        new = [version for version in versions if version not in shown]
        self._hidden = conditions.of_versions(new, EDGE) if new else None
        for position, chunks in enumerate(self._staging.slices(versions, CHUNKS_AT_ONCE)):
            if position:
                yield None  # searches come in between, and see the old versions
            self._apply(shards.upsert_operation(chunks))
        removed = live(conditions.of_other_versions(versions, EDGE))
        if removed:
            self._apply(shards.replace_operation(versions))
            self._deleted += removed
        self._hidden = None
        self._staging.finish(intended)
        yield removed

    def _rebuild_when_due(self) -> None:
        """When searching one by one, or over deleted points, has become slow."""
        points, unindexed = self._shard.sizes()
        threshold = max(self._limits.optimize_after_chunks, int(points * REBUILD_FRACTION))
        slow, now = max(unindexed - self._never_indexed, self._deleted), time.monotonic()
        if slow < threshold or now < self._retry_at:
            return
        if now - self._written_at < FLUSH_AFTER_S and slow < WRITING_FACTOR * self._limits.optimize_after_chunks:
            self._flush_at = now + FLUSH_AFTER_S  # looks again when the writing may have ended
            return
        log.info("rebuild_started", index=self._folder.name, points=points, unindexed=unindexed, deleted=self._deleted)
        self._deleted = 0
        target = self._folder / uuid.uuid4().hex
        self._rebuild = Rebuild(self._folder / self._name, target, self._wake)

    def _settle(self, rebuild: Rebuild) -> None:
        if rebuild.phase is Phase.FAILED:
            rebuild.abandon()
            self._rebuild, self._retry_at = None, time.monotonic() + RETRY_REBUILD_S
        elif rebuild.phase is Phase.DONE:
            self._swap(rebuild)

    def _swap(self, rebuild: Rebuild) -> None:
        """From here on the copy is the index; a crash before the rename leaves the old shard, which has everything too."""
        assert rebuild.shard is not None  # noqa: S101 - it is done
        old, old_name = self._shard, self._name
        write_atomically(self._folder / _CURRENT, rebuild.target.name)
        self._shard, self._name, self._rebuild = rebuild.shard, rebuild.target.name, None
        self._never_indexed = rebuild.never_indexed
        self._flush_at = time.monotonic()  # what came meanwhile may be enough for the next rebuild
        old.close()
        threading.Thread(target=shutil.rmtree, args=(self._folder / old_name, True), daemon=True).start()
        points, unindexed = self._shard.sizes()
        log.info("rebuild_done", index=self._folder.name, points=points, unindexed=unindexed)

    def _remove_refuse(self) -> None:
        for entry in self._folder.iterdir():
            if entry.is_dir() and entry.name != self._name:
                shutil.rmtree(entry, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Limits:
    """When an index is rebuilt."""

    optimize_after_chunks: int = 8_000


class Indexes:
    """All indexes under a folder; opened when first used."""

    def __init__(self, root: Path, limits: Limits, wake: Callable[[], None] = lambda: None) -> None:
        self._root, self._limits, self._wake = root, limits, wake
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
            self._open[name] = Index.create(self._root / name, dimensions, self._limits, self._wake)

    def drop(self, name: str) -> None:
        """Deletes an index; its pointer first, so that a crash leaves no half of it in use."""
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
            self._open[name] = Index(self._root / name, self._limits, self._wake)
        return self._open[name]

    def writable(self, name: str) -> bool:
        """Whether a write can be done now; one to an index that is not there fails at once."""
        return name not in self._open or self._open[name].writable

    def keep_house(self) -> bool:
        """A step of housekeeping in each; False when none has anything to do now."""
        return sum(index.keep_house() for index in self._open.values()) > 0  # each gets its turn


def write_atomically(path: Path, text: str) -> None:
    """Whole or not at all."""
    scratch = path.with_suffix(".new")
    scratch.write_text(text)
    scratch.replace(path)
