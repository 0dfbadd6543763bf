"""Puts waiting jobs together into runs, fairly between collections, for any number of worker processes.

Each collection in turn gives its oldest jobs, the one with the fewest runs under way first. Content that is on its way in
another run waits for it, so that two uploads of the same bytes are embedded once: the later finds the earlier's vectors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.database import Database
from ingest.jobs import JobChanges, JobState, new_id, now_us
from ingest.tables import VERSION_IS_LIVE, VERSION_OF_JOB, documents, jobs, runs, versions

CANDIDATES = 2_000
TAKING = "queue"
"""What a transaction that makes a run has for itself."""


@dataclass(frozen=True)
class BatchLimits:
    """How much one run carries, several small documents or one that is larger than `max_bytes`; and how many runs of one
    collection go on at once, on all workers together."""

    max_documents: int
    max_bytes: int
    max_runs_of_collection: int = 8


class FairQueue:
    """The jobs that wait."""

    def __init__(self, database: Database, changes: JobChanges, limits: BatchLimits) -> None:
        self._database = database
        self._changes = changes
        self._limits = limits
        self._served: dict[str, int] = {}

    async def take(self, room: int) -> str | None:
        """Makes a new run of waiting jobs; None when none can go, or when `room` runs wait for a worker already."""
        if not await self._any_waiting():  # an idle worker looks often, and a read is cheap
            return None
        run = new_id()
        async with self._database.write(TAKING) as connection:
            chosen = await self._next_batch(connection, room)
            if not chosen:
                return None
            collection, now = chosen[0].collection, now_us()
            await connection.execute(runs.insert(), {
                "id": run, "collection": collection, "indexed_rows": 0, "created_us": now, "worker": "",
            })  # fmt: skip
            ids = [row.id for row in chosen]
            waiting = sa.and_(jobs.c.id.in_(ids), jobs.c.state == JobState.QUEUED)
            await connection.execute(
                jobs.update().where(waiting).values(run=run, state=JobState.RUNNING, updated_us=now)
            )
        self._served[collection] = max(self._served.values(), default=0) + 1
        self._changes.announce(ids)
        return run

    async def _any_waiting(self) -> bool:
        query = sa.select(jobs.c.id).where(jobs.c.state == JobState.QUEUED).limit(1)
        async with self._database.read() as connection:
            return (await connection.execute(query)).first() is not None

    async def _next_batch(self, connection: AsyncConnection, room: int) -> list[Any]:
        counted = sa.select(
            runs.c.collection, sa.func.count().label("under_way"), sa.func.sum(sa.case((runs.c.worker == "", 1), else_=0))
        ).group_by(runs.c.collection)  # fmt: skip
        rows = (await connection.execute(counted)).all()
        if sum(row[2] for row in rows) >= room:
            return []
        under_way = {row.collection: row.under_way for row in rows}
        for collection in await self._in_turn(connection, under_way):
            if chosen := await self._of_collection(connection, collection):
                return chosen
        return []

    async def _in_turn(self, connection: AsyncConnection, under_way: Mapping[str, int]) -> list[str]:
        """Collections with waiting jobs: those with the fewest runs first, then those served longest ago."""
        oldest = sa.select(jobs.c.collection, sa.func.min(jobs.c.id).label("oldest"))
        waiting = oldest.where(jobs.c.state == JobState.QUEUED).group_by(jobs.c.collection)
        first = {row.collection: row.oldest for row in await connection.execute(waiting)}
        open_to_more = [name for name in first if under_way.get(name, 0) < self._limits.max_runs_of_collection]
        return sorted(open_to_more, key=lambda name: (under_way.get(name, 0), self._served.get(name, 0), first[name]))

    async def _of_collection(self, connection: AsyncConnection, collection: str) -> list[Any]:
        query = (
            sa.select(jobs.c.id, jobs.c.collection, jobs.c.size_bytes, versions.c.sha256)
            .join(versions, VERSION_OF_JOB)
            .where(jobs.c.state == JobState.QUEUED, jobs.c.collection == collection)
            .order_by(jobs.c.id)
            .limit(CANDIDATES)
        )
        candidates = (await connection.execute(query)).all()
        seen = await _under_way(connection, collection)
        again = {row.sha256 for row in candidates if row.sha256 in seen} | _repeated(candidates)
        known = await _live(connection, collection, again)
        chosen: list[Any] = []
        size_bytes = 0
        for row in candidates:
            if row.sha256 in seen and row.sha256 not in known:
                continue
            size_bytes += row.size_bytes
            if chosen and (size_bytes > self._limits.max_bytes or len(chosen) == self._limits.max_documents):
                break
            chosen.append(row)
            seen.add(row.sha256)
        return chosen


async def _under_way(connection: AsyncConnection, collection: str) -> set[str]:
    """The content of the collection's jobs that go on."""
    query = (
        sa.select(versions.c.sha256)
        .join(jobs, VERSION_OF_JOB)
        .where(jobs.c.state == JobState.RUNNING, jobs.c.collection == collection)
    )
    return set((await connection.execute(query)).scalars())


async def _live(connection: AsyncConnection, collection: str, hashes: set[str]) -> set[str]:
    """Those that a live document of the collection has: their vectors can be taken."""
    if not hashes:
        return set()
    query = sa.select(versions.c.sha256).join(documents, VERSION_IS_LIVE)
    mine = query.where(versions.c.collection == collection, versions.c.sha256.in_(hashes))
    return set((await connection.execute(mine)).scalars())


def _repeated(candidates: Any) -> set[str]:
    seen: set[str] = set()
    return {row.sha256 for row in candidates if row.sha256 in seen or seen.add(row.sha256)}
