"""The chunks of a run: cut once, kept as one object, and read slice by slice while they are embedded."""

import io
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ingest.documents import Metadata
from ingest.index.chunk_index import Chunk, ChunkRange, DocumentChunks
from ingest.parsers.rows import Context, CutRows, Rows
from ingest.run_statements import Work
from ingest.storage import Storage

SHIFTED_CHUNKS = 256
"""So many chunks may an edit have put in or taken out for those behind it to be known again."""
_NAMESPACE = uuid.UUID("5b1f0a56-7a0e-4e0b-9d4c-0f2f7c6a9c11")


@dataclass(frozen=True)
class Member:
    """A document of a run: its job and the version that is cut."""

    job: str
    document: str
    version: str


@dataclass(frozen=True)
class ChunkTable:
    """All chunks of a run, in the order of its members."""

    members: list[Member]
    cut: CutRows

    @property
    def rows(self) -> Rows:
        """A row (parsers.rows.ROW) for each chunk."""
        return self.cut.rows

    def counts(self, end: int) -> npt.NDArray[np.int64]:
        """How many of the first `end` chunks each member has."""
        return np.bincount(self.rows["document"][:end], minlength=len(self.members))

    def slices(self, begin: int, size: int) -> Iterator[tuple[int, int]]:
        """Ranges of at most `size` rows from `begin` on."""
        for start in range(begin, len(self.rows), size):
            yield start, min(start + size, len(self.rows))

    def to_bytes(self) -> bytes:
        """As `from_bytes` reads it."""
        described = json.dumps({
            "members": [vars(member) for member in self.members], "headings": self.cut.headings,
            "contexts": [context.to_json() for context in self.cut.contexts],
        })  # fmt: skip
        buffer = io.BytesIO()
        np.savez(buffer, rows=self.rows, described=np.frombuffer(described.encode(), np.uint8))
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "ChunkTable":
        """What `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            described = json.loads(arrays["described"].tobytes())
            members = [Member(**member) for member in described["members"]]
            contexts = [Context.from_json(context) for context in described["contexts"]]
            return cls(members, CutRows(arrays["rows"], described["headings"], contexts))


def table_key(run: str) -> str:
    """Where a run's table is kept."""
    return f"runs/{run}"


@dataclass(frozen=True)
class Twins:
    """Where vectors may be had without embedding: for a job, the live version of the same content, as document and version.

    `again`: the chunks themselves may have been sent before, by a worker that was killed then. `replaced`: for a job, the
    version of its document in the live index, and how many chunks that has.
    """

    by_job: Mapping[str, tuple[str, str]]
    again: bool
    replaced: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    def of(self, job: str, chunk: str, index: int) -> str:
        """The id of a chunk that may read the same; empty when none is known."""
        twin = self.by_job.get(job)
        return chunk_id(*twin, index) if twin else chunk if self.again else ""

    def around(self, job: str, first: int, last: int, count: int) -> ChunkRange | None:
        """Which chunks of the version in the live index may read the same as `first` to `last` of `count` chunks."""
        if job not in self.replaced:
            return None
        version, before = self.replaced[job]
        ratio = before / max(1, count)
        return ChunkRange(version, max(0, int(first * ratio) - SHIFTED_CHUNKS), int(last * ratio) + SHIFTED_CHUNKS)


async def read_slice(
    storage: Storage, table: ChunkTable, works: Mapping[str, Work], start: int, end: int, twins: Twins
) -> list[DocumentChunks]:
    """Rows `start` to `end` with their text, for those members whose job goes on."""
    rows = table.rows[start:end]
    firsts = np.searchsorted(table.rows["document"], rows["document"][[0, -1]])
    parts: list[_Part] = []
    for number in range(int(rows["document"][0]), int(rows["document"][-1]) + 1):
        member = table.members[number]
        mine = rows[rows["document"] == number]
        work = works.get(member.job)
        if work is None or work.version.id != member.version or len(mine) == 0:
            continue
        skipped = start - int(firsts[0]) if number == rows["document"][0] else 0
        count = int((table.rows["document"] == number).sum()) if twins.replaced else 0
        reuse = twins.around(member.job, skipped, skipped + len(mine) - 1, count)
        parts.append(_Part(work, mine, skipped, reuse))
    read = await storage.read_ranges([(part.work.version.text_key, *part.byte_range) for part in parts])
    return [_document_chunks(table, part, data, twins) for part, data in zip(parts, read, strict=True)]


@dataclass(frozen=True)
class _Part:
    """The rows of one document in a slice; `first_index` is the first one's number in the document."""

    work: Work
    rows: Rows
    first_index: int
    reuse: ChunkRange | None

    @property
    def byte_range(self) -> tuple[int, int]:
        """From the first to the last byte of its chunks."""
        return int(self.rows["byte_start"].min()), int(self.rows["byte_end"].max())


def _document_chunks(table: ChunkTable, part: _Part, data: bytes, twins: Twins) -> DocumentChunks:
    work, (begin, _) = part.work, part.byte_range
    chunks = [
        Chunk(
            id=(own := chunk_id(work.job.document, work.version.id, index)),
            index=index,
            text=data[row["byte_start"] - begin : row["byte_end"] - begin].decode(),
            start=int(row["start"]),
            end=int(row["end"]),
            page=int(row["page"]),
            headings=table.cut.headings[row["heading"]],
            place=table.cut.contexts[row["context"]].place,
            table=int(row["table"]),
            table_header=table.cut.contexts[row["context"]].table_header,
            same_as=twins.of(work.job.id, own, index),
        )
        for index, row in enumerate(part.rows, part.first_index)
    ]
    metadata: Metadata = {**work.version.found, **work.version.metadata}
    return DocumentChunks(work.job.document, work.version.id, work.job.display_name, metadata, chunks, part.reuse)


def chunk_id(document: str, version: str, index: int) -> str:
    """The same chunk has the same id however often it is sent."""
    return str(uuid.uuid5(_NAMESPACE, f"{document}\n{version}\n{index}"))
