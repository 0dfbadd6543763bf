"""One index: its live shard, its staged chunks and its journal, flushed and rebuilt when that is due. Kept whole over crashes.

Writes that take long go in steps: they are generators, and searches come in between.
"""

import shutil
import uuid
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import qdrant_edge as q

from mesh import logs
from mesh.errors import FailedPrecondition
from retriever.chunks import Description, DocumentVersion
from retriever.filters import Kind
from retriever.stores import conditions
from retriever.stores.base import Counts, OfIds, Selection, StoreQuery, Window
from retriever.stores.edge import operations as ops
from retriever.stores.edge import pointer
from retriever.stores.edge.journal import Journal
from retriever.stores.edge.operations import PAGE_ROWS, ROWS_AT_ONCE, Operation, Row, Upsert
from retriever.stores.edge.rebuild import Phase, Rebuild
from retriever.stores.edge.shard import EDGE, FoundPoint, Payload, Shard
from retriever.stores.edge.staging import Staging
from retriever.stores.edge.upkeep import Upkeep

log = logs.get(__name__)

JOURNAL, STAGED = "journal", "staged.sqlite"

Steps = Generator[None, None, None]


@dataclass(frozen=True, slots=True)
class Limits:
    """When an index is rebuilt."""

    optimize_after_chunks: int = 8_000


@dataclass(frozen=True, slots=True)
class Loaded:
    """A shard that is open, and how many of its points will never be indexed, because their segment is too small."""

    name: str
    shard: Shard
    never_indexed: int = 0


class Index:
    """Its folder holds the live shard, which the pointer names; every other sub-folder is refuse."""

    def __init__(self, folder: Path, limits: Limits, announce: Callable[[str], None], loaded: Loaded) -> None:
        self._folder, self._announce = folder, announce
        self._name, self._shard = loaded.name, loaded.shard
        self._upkeep = Upkeep(limits.optimize_after_chunks, loaded.never_indexed)
        self._staging, self._journal = Staging(folder / STAGED), Journal(folder / JOURNAL)
        self._rebuild: Rebuild | None = None
        self._retired = False
        self._hidden: q.Filter | None = None

    @classmethod
    def create(cls, folder: Path, dimensions: int, limits: Limits, announce: Callable[[str], None]) -> "Index":
        """A new one, or the one that is there."""
        if not pointer.exists(folder):
            shutil.rmtree(folder, ignore_errors=True)
            name = uuid.uuid4().hex
            Shard.create(folder / name, dimensions).close()
            pointer.write(folder, name)
        return cls.open(folder, limits, announce)

    @classmethod
    def open(cls, folder: Path, limits: Limits, announce: Callable[[str], None]) -> "Index":
        """One that is there."""
        name = pointer.read(folder)
        for entry in folder.iterdir():
            if entry.is_dir() and entry.name != name:
                shutil.rmtree(entry, ignore_errors=True)
        index = cls(folder, limits, announce, Loaded(name, Shard.load(folder / name)))
        index._make_good()
        return index

    @classmethod
    def adopt(cls, folder: Path, limits: Limits, announce: Callable[[str], None], loaded: Loaded) -> "Index":
        """A shard that has caught up with the journal takes the place of the one before."""
        pointer.write(folder, loaded.name)
        index = cls(folder, limits, announce, loaded)
        index._journal.clear()
        return index

    @property
    def writable(self) -> bool:
        """False for the moment in which the shard is copied."""
        return self._rebuild is None or self._rebuild.phase is not Phase.COPYING

    def search(self, queries: Sequence[StoreQuery]) -> list[list[FoundPoint]]:
        """The answers to a batch."""
        self._upkeep.searched()
        return self._shard.search(queries, self._hidden)

    def windows(self, windows: Sequence[Window]) -> list[tuple[str, Payload]]:
        """The published chunks in any of the windows."""
        return self._shard.windows(windows)

    def upsert(self, chunks: Upsert, staged: bool) -> Steps:
        """Stores all or none."""
        if staged:
            self._staging.put(chunks.rows())
            return
        yield from self._apply(chunks)
        self._staging.delete(OfIds(chunks.ids))

    def publish(self, versions: Sequence[DocumentVersion]) -> Generator[None, None, int]:
        """Returns the number of chunks removed."""
        self._staging.intend(versions)
        return (yield from self._finish_publishing())

    def describe(self, descriptions: Sequence[Description]) -> Generator[None, None, int]:
        """Gives published versions other metadata."""
        updated = 0
        for description in descriptions:
            count = self._shard.count(conditions.of_versions([description.version], EDGE))
            if count:
                yield from self._apply(ops.Describe(description))
            updated += count
        return updated

    def delete(self, selection: Selection) -> Generator[None, None, int]:
        """Removes what is selected, here and among the staged."""
        deleted = self._shard.count(conditions.selected(selection, EDGE))
        if deleted:
            yield from self._apply(ops.Delete(selection))
            self._upkeep.deleted(deleted)
        return deleted + self._staging.delete(selection)

    def add_fields(self, fields: Sequence[tuple[str, Kind]]) -> Steps:
        """Indexes metadata keys."""
        yield from self._apply(ops.AddFields(fields))

    def vectors(self, ids: Sequence[str]) -> list[tuple[str, Payload, list[float]]]:
        """Those of these chunks that are there, published or staged."""
        return [*self._staging.vectors(ids), *self._shard.vectors(ids)]

    def versions(self, after: str | None) -> tuple[list[DocumentVersion], str | None]:
        """The version of each published chunk on a page, and where the next page begins."""
        return self._shard.versions(after)

    def staged_versions(self) -> dict[DocumentVersion, int]:
        """How many chunks of each version wait to be published."""
        return self._staging.versions()

    def page(self, staged: bool, after: str, documents: Sequence[str]) -> tuple[list[Row], str]:
        """Published or staged chunks with their vectors, by their id."""
        return (self._staging if staged else self._shard).page(after, documents, PAGE_ROWS)

    def count(self) -> Counts:
        """Exact counts."""
        return Counts(live=self._shard.sizes()[0], staged=self._staging.count())

    def keep_house(self) -> None:
        """Flushes or begins a rebuild where it is due, and looks after the one that goes on. Between writes only."""
        if self._retired:
            return
        if self._rebuild is not None:
            self._follow(self._rebuild)
        elif self._upkeep.to_look() and not self._rebuild_when_due():
            self._flush_when_due()

    def busy(self) -> bool:
        """Whether it still has something to do for itself."""
        return self._upkeep.changed or self._rebuild is not None

    def retire(self) -> str:
        """No write comes any more, and the journal is complete: a successor may take over. Returns the shard's name."""
        if self._rebuild is None or self._rebuild.phase is not Phase.READY:
            raise FailedPrecondition("Nothing has been rebuilt.")
        self._retired = True
        return self._name

    def abandon(self) -> None:
        """There will be no successor: goes on as before, and tries again later."""
        if self._rebuild is not None:
            self._rebuild.abandon()
        self._rebuild, self._retired = None, False
        self._upkeep.postpone()
        self._journal.clear()

    def close(self) -> None:
        """Writes everything down, unless another process has the index already."""
        if self._retired:
            return  # closing takes up to half a second and is of no use
        if self._rebuild is not None:
            self._rebuild.abandon()
        self._shard.flush()
        self._shard.close()
        self._staging.close()
        self._journal.close()

    def _make_good(self) -> None:
        """What a crash has left half done."""
        try:
            half_done = self._journal.last()
            for update in ops.updates(half_done) if half_done is not None else ():
                self._shard.apply(update)
        except Exception as error:  # it was never acknowledged, and the index must open nevertheless
            log.error("operation_failed", index=self._folder.name, error=str(error)[:500])
        self._journal.clear()
        for _ in self._finish_publishing():
            pass

    def _apply(self, operation: Operation) -> Steps:
        """Durable and whole when it ends. The journal serves a crash between two steps, and a successor."""
        journaled = self._rebuild is not None or ops.in_steps(operation)
        if journaled:
            self._journal.append(operation)
        try:
            for number, update in enumerate(ops.updates(operation)):
                if number:
                    yield
                self._shard.apply(update)
        except Exception:  # not when this process is told to end: then the journal says how to go on
            self._forget(journaled)
            raise
        self._forget(journaled)
        self._upkeep.wrote(len(operation.ids) if isinstance(operation, Upsert) else 1)

    def _forget(self, journaled: bool) -> None:
        if journaled and self._rebuild is None:
            self._journal.clear()

    def _finish_publishing(self) -> Generator[None, None, int]:
        """What was intended, be it just now or before a crash: store the new, then drop the old and show the new at once."""
        live = self._shard.count
        intended = self._staging.intended()
        shown = {version for version in intended if live(conditions.of_versions([version], EDGE))}
        versions = [version for version in intended if version in shown or self._staging.has(version)]
        if not versions:  # what a worker sends late, for a version that has been replaced or deleted, changes nothing
            if intended:
                self._staging.finish(intended)
            return 0
        new = [version for version in versions if version not in shown]
        self._hidden = conditions.of_versions(new, EDGE) if new else None
        for rows in self._staging.slices(versions, ROWS_AT_ONCE):
            yield from self._apply(Upsert.of(rows))
            yield
        removed = live(conditions.of_other_versions(versions, EDGE))
        if removed:
            yield from self._apply(ops.Replace(versions))
            self._upkeep.deleted(removed)
        self._hidden = None
        self._staging.finish(intended)
        return removed

    def _rebuild_when_due(self) -> bool:
        """True when it has begun."""
        points, unindexed = self._shard.sizes()
        if not self._upkeep.rebuild_due(points, unindexed):
            return False
        log.info("rebuild_started", index=self._folder.name, points=points, unindexed=unindexed)
        self._upkeep.rebuilding()
        self._rebuild = Rebuild(self._folder / self._name, self._folder / uuid.uuid4().hex)
        return True

    def _flush_when_due(self) -> None:
        if self._upkeep.flush_due():
            self._shard.flush()
            self._upkeep.flushed()
        self._upkeep.rest()

    def _follow(self, rebuild: Rebuild) -> None:
        if rebuild.advance():
            if rebuild.phase is Phase.FAILED:
                self.abandon()
            elif rebuild.phase is Phase.READY:
                self._announce(rebuild.target.name)
