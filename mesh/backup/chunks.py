"""Copies indexes into a place: all pages first, then again what was written to meanwhile.

Pages are cut where a chunk's id says so, not after so many: a chunk that comes or goes changes one part, and the next backup
finds all others there already.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from uuid import UUID

from mesh.backup.manifest import IndexCopy
from mesh.backup.parts import ChunkRow, Chunks
from mesh.backup.place import Place

_CUT_AFTER = 512
"""A part ends after a chunk whose id is divisible by it: so many chunks on average."""
_MOST_ROWS = 4 * _CUT_AFTER
DOCUMENTS_AT_ONCE = 100

Versions = Counter[tuple[str, str]]
"""Chunks by document and version."""


@dataclass
class _Copied:
    parts: list[str] = field(default_factory=list)
    versions: Versions = field(default_factory=Counter)


@dataclass
class CopiedIndex:
    """What has been copied of an index: published and staged chunks, and the newer ones of some documents."""

    index: str
    dimensions: int
    live: _Copied = field(default_factory=_Copied)
    staged: _Copied = field(default_factory=_Copied)
    replaced: set[str] = field(default_factory=set)
    newer: dict[str, tuple[list[ChunkRow], list[ChunkRow]]] = field(default_factory=dict)
    """By document, published and staged."""

    def documents(self) -> set[str]:
        """All of which it holds chunks."""
        return {document for document, _ in self.live.versions} | {document for document, _ in self.staged.versions}

    def count(self, document: str, version: str) -> int:
        """Published chunks of a version."""
        if document in self.replaced:
            return sum(row.version == version for row in self.newer[document][0])
        return self.live.versions[document, version]

    def versions_of(self) -> dict[str, set[str]]:
        """The published versions by document."""
        found: dict[str, set[str]] = {}
        for document, version in self.live.versions:
            if document not in self.replaced:
                found.setdefault(document, set()).add(version)
        for document, (rows, _) in self.newer.items():
            found[document] = {row.version for row in rows}
        return found

    def forget_later(self, known: Mapping[str, set[str]]) -> None:
        """Drops versions that began after the cut: those that it does not know of documents that it knows, and of others, which
        are no documents of ingest's, those that were not there at first."""
        first: dict[str, set[str]] = {}
        for document, version in [*self.live.versions, *self.staged.versions]:
            first.setdefault(document, set()).add(version)
        for document, (live, staged) in self.newer.items():
            kept = known.get(document) or first.get(document, set())
            self.newer[document] = (
                [row for row in live if row.version in kept],
                [row for row in staged if row.version in kept],
            )

    async def finish(self, place: Place) -> IndexCopy:
        """As the manifest has it."""
        rows = [self.newer[document] for document in sorted(self.replaced)]
        newer = [row for live, _ in rows for row in live], [row for _, staged in rows for row in staged]
        kept = [
            sum(count for (document, _), count in copied.versions.items() if document not in self.replaced)
            for copied in (self.live, self.staged)
        ]
        names = "\n".join(json.dumps(document) for document in sorted(self.replaced)).encode()
        return IndexCopy(
            index=self.index,
            dimensions=self.dimensions,
            live=kept[0] + len(newer[0]),
            staged=kept[1] + len(newer[1]),
            parts=self.live.parts,
            staged_parts=self.staged.parts,
            replaced=[await place.put_blob(names)] if names else [],
            newer=[await place.put_blob(_joined(some)) for some in _batches(newer[0])],
            newer_staged=[await place.put_blob(_joined(some)) for some in _batches(newer[1])],
        )


async def copy_index(
    chunks: Chunks, index: str, dimensions: int, place: Place, copied: Callable[[int], None]
) -> CopiedIndex:
    """All of its pages. `copied` is told of each."""
    found = CopiedIndex(index, dimensions)
    for staged, into in ((False, found.live), (True, found.staged)):
        waiting: list[ChunkRow] = []
        after: str | None = ""
        while after is not None:
            rows, following = await chunks.page(index, staged=staged, after=after)
            after = following or None
            for row in rows:
                waiting.append(row)
                into.versions[row.document, row.version] += 1
                if UUID(row.id).int % _CUT_AFTER == 0 or len(waiting) == _MOST_ROWS:
                    into.parts.append(await place.put_blob(_joined(waiting)))
                    waiting = []
            copied(len(rows))
        if waiting:
            into.parts.append(await place.put_blob(_joined(waiting)))
    return found


async def copy_again(chunks: Chunks, found: CopiedIndex, documents: Iterable[str]) -> None:
    """These documents as they are now, be it that they are gone."""
    names = iter(sorted(documents))
    while some := list(islice(names, DOCUMENTS_AT_ONCE)):
        newer: dict[str, tuple[list[ChunkRow], list[ChunkRow]]] = {document: ([], []) for document in some}
        for staged in (False, True):
            after: str | None = ""
            while after is not None:
                rows, following = await chunks.page(found.index, staged=staged, after=after, documents=some)
                after = following or None
                for row in rows:
                    newer[row.document][staged].append(row)
        found.newer |= newer
        found.replaced |= set(some)


def _joined(rows: Sequence[ChunkRow]) -> bytes:
    return b"".join(row.content for row in rows)


def _batches(rows: Sequence[ChunkRow]) -> Iterable[Sequence[ChunkRow]]:
    return (rows[at : at + _MOST_ROWS] for at in range(0, len(rows), _MOST_ROWS))
