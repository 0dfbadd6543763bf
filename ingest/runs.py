"""What a workflow knows of the jobs it carries, and what it records of them. Each record is one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.catalog import new_version_id, object_keys
from ingest.database import Database, discard
from ingest.documents import Failure
from ingest.jobs import JobChanges, JobStage, JobState, now_us
from ingest.rows import ACTIVE, to_job, to_version
from ingest.run_statements import (
    MAKE_LIVE,
    PARSED,
    POINT_TO_LIVE,
    UPDATE_VERSION,
    ParsedText,
    Work,
    live_values,
    of_version,
)
from ingest.tables import VERSION_IS_LIVE, VERSION_OF_JOB, discarded, documents, jobs, reindexings, runs, versions
from mesh.names import document_name


class RunLost(Exception):
    """Another worker carries the run now. This one must let go of it."""


class Runs:
    """The queries of the workflows."""

    def __init__(self, database: Database, changes: JobChanges, worker: str) -> None:
        self._database = database
        self._changes = changes
        self._worker = worker

    async def waiting(self) -> list[str]:
        """Runs that no worker carries, the oldest first."""
        query = sa.select(runs.c.id).where(runs.c.worker == "").order_by(runs.c.id)
        async with self._database.read() as connection:
            return list((await connection.execute(query)).scalars())

    async def claim(self, run: str) -> bool:
        """This worker carries the run from now on. False when there is nothing left to do for it."""
        async with self._database.write() as connection:
            mine = runs.update().where(runs.c.id == run).values(worker=self._worker)
            return (await connection.execute(mine)).rowcount == 1

    async def disown(self, worker: str) -> None:
        """Takes its work from a worker that is dead; should it live after all, it can record nothing any more."""
        async with self._database.write() as connection:
            for table in (runs, reindexings):
                await connection.execute(table.update().where(table.c.worker == worker).values(worker=""))

    async def collection(self, run: str) -> str:
        """The collection that a run works for."""
        async with self._database.read() as connection:
            return (await connection.execute(sa.select(runs.c.collection).where(runs.c.id == run))).scalar_one()

    async def index_version(self, run: str) -> str:
        """The index that the run's chunks are cut for."""
        async with self._database.read() as connection:
            return (await connection.execute(sa.select(runs.c.index_version).where(runs.c.id == run))).scalar_one()

    async def replaced(self, run: str) -> dict[str, tuple[str, int]]:
        """For each job of the run whose document has a live version: that, and how many chunks it has."""
        query = (
            sa.select(jobs.c.id, versions.c.id.label("version"), versions.c.chunk_count)
            .join(documents, sa.and_(documents.c.collection == jobs.c.collection, documents.c.id == jobs.c.document))
            .join(versions, VERSION_IS_LIVE)
            .where(jobs.c.run == run)
        )
        async with self._database.read() as connection:
            return {row.id: (row.version, row.chunk_count) for row in await connection.execute(query)}

    async def requeue(self, run: str) -> None:
        """Has the run's jobs that go on begin again in another run: what they were cut for is not in use any more."""
        works = await self.work(run)
        async with self._database.write() as connection:
            await self._hold(connection, {run})
            for work in works:
                version = new_version_id(work.version.content_key)
                mine = sa.and_(
                    versions.c.collection == work.job.collection, versions.c.document == work.job.document_id
                )
                renamed = versions.update().where(mine, versions.c.id == work.version.id).values(id=version)
                if (await connection.execute(renamed)).rowcount:
                    again = jobs.update().where(jobs.c.id == work.job.id, jobs.c.run == run)
                    await connection.execute(again.values(
                        version=version, state=JobState.QUEUED, stage=JobStage.STORED, run="", publishing=False,
                        total_chunks=0, indexed_chunks=0, updated_us=now_us(),
                    ))  # fmt: skip
        self._changes.announce(work.job.id for work in works)

    async def work(self, run: str) -> list[Work]:
        """The run's jobs that go on, the oldest first."""
        going = sa.and_(jobs.c.run == run, jobs.c.state == JobState.RUNNING)
        of_jobs = sa.select(jobs.c.id.label("job"), versions).join(versions, VERSION_OF_JOB).where(going)
        async with self._database.read() as connection:
            by_job = {row.job: to_version(row) for row in await connection.execute(of_jobs)}
            rows = await connection.execute(sa.select(jobs).where(going).order_by(jobs.c.id))
            return [Work(to_job(row), by_job[row.id], run) for row in rows if row.id in by_job]

    async def record_parsed(self, parsed: Mapping[str, tuple[Work, ParsedText]]) -> None:
        """The texts of these jobs are kept. Texts of jobs that were stopped meanwhile are discarded."""
        async with self._database.write() as connection:
            await self._hold(connection, {work.run for work, _ in parsed.values()})
            alive = await self._advance(connection, list(parsed), JobStage.PARSED)
            kept = [of_version(work) | vars(text) for job, (work, text) in parsed.items() if job in alive]
            if kept:
                await connection.execute(UPDATE_VERSION.values({key: sa.bindparam(key) for key in PARSED}), kept)
            stopped = [item for job, item in parsed.items() if job not in alive]
            keys = [key for work, text in stopped for key in object_keys(work.version.raw_key, text.text_key)[1:]]
            await discard(self._database, connection, keys)
        self._changes.announce(parsed)

    async def twins(self, run: str) -> dict[str, tuple[str, str]]:
        """For each job of the run a live version of the same content, where there is one: its document's name and its id."""
        mine = sa.select(jobs.c.id, jobs.c.collection, versions.c.sha256).join(versions, VERSION_OF_JOB)
        one = sa.func.min(versions.c.document + "/" + versions.c.id)
        live = (
            sa.select(versions.c.sha256, one.label("one")).join(documents, VERSION_IS_LIVE).group_by(versions.c.sha256)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(mine.where(jobs.c.run == run))).all()
            if not rows:
                return {}
            same = sa.and_(
                versions.c.collection == rows[0].collection, versions.c.sha256.in_({row.sha256 for row in rows})
            )
            found = {row.sha256: row.one.split("/") for row in await connection.execute(live.where(same))}
        return {
            row.id: (document_name(row.collection, found[row.sha256][0]), found[row.sha256][1])
            for row in rows
            if row.sha256 in found
        }

    async def record_chunked(self, counts: Mapping[str, tuple[Work, int]], chunking: str, index_version: str) -> None:
        """The chunks of these jobs are kept and counted; `chunking` says how they were cut, for which index."""
        if not counts:
            return
        async with self._database.write() as connection:
            names = {work.run for work, _ in counts.values()}
            await self._hold(connection, names)
            await connection.execute(runs.update().where(runs.c.id.in_(names)).values(index_version=index_version))
            await self._advance(connection, list(counts), JobStage.CHUNKED)
            values = [of_version(work) | {"count": count} for work, count in counts.values()]
            of_job = jobs.update().where(jobs.c.id == sa.bindparam("b_job"))
            await connection.execute(of_job.values(total_chunks=sa.bindparam("count")), values)
            cut = {"chunk_count": sa.bindparam("count"), "chunking": chunking}
            await connection.execute(UPDATE_VERSION.values(**cut), values)
        self._changes.announce(counts)

    async def going(self, run: str) -> set[str]:
        """The ids of the run's jobs that go on."""
        query = sa.select(jobs.c.id).where(jobs.c.run == run, jobs.c.state == JobState.RUNNING)
        async with self._database.read() as connection:
            return set((await connection.execute(query)).scalars())

    async def indexed_rows(self, run: str) -> int:
        """How many of the run's chunks are in the retriever for sure."""
        async with self._database.read() as connection:
            return (await connection.execute(sa.select(runs.c.indexed_rows).where(runs.c.id == run))).scalar_one()

    async def record_indexed(self, run: str, rows: int, by_job: Mapping[str, int], done: Sequence[str]) -> None:
        """The run's first `rows` chunks are in the retriever: so many of each job, and all of those that are `done`."""
        async with self._database.write() as connection:
            await self._hold(connection, {run})
            await connection.execute(runs.update().where(runs.c.id == run).values(indexed_rows=rows))
            mine = jobs.update().where(jobs.c.id == sa.bindparam("b_job"), jobs.c.run == run)
            values = [{"b_job": job, "count": count} for job, count in by_job.items()]
            if values:
                await connection.execute(mine.values(indexed_chunks=sa.bindparam("count"), updated_us=now_us()), values)
            await self._advance(connection, done, JobStage.INDEXED)
        self._changes.announce(by_job)

    async def claim_publishing(self, run: str) -> tuple[list[Work], bool]:
        """Marks the run's indexed jobs so that nothing stops them any more, unless an older job of the same document is
        just being published, or another index just takes the live one's place. Answers with the marked ones, and whether
        others must wait."""
        async with self._database.write(await self.collection(run)) as connection:
            await self._hold(connection, {run})
            other = jobs.alias()
            taken = sa.exists().where(
                other.c.collection == jobs.c.collection, other.c.document == jobs.c.document,
                other.c.id != jobs.c.id, other.c.publishing,
            )  # fmt: skip
            ready = sa.and_(
                jobs.c.run == run,
                jobs.c.state == JobState.RUNNING,
                jobs.c.stage == JobStage.INDEXED,
                ~jobs.c.publishing,
            )
            closing = sa.exists().where(reindexings.c.collection == jobs.c.collection, reindexings.c.closing)
            await connection.execute(jobs.update().where(ready, ~taken, ~closing).values(publishing=True))
            blocked = (await connection.execute(sa.select(jobs.c.id).where(ready).limit(1))).first() is not None
            rows = await connection.execute(sa.select(jobs.c.id).where(jobs.c.run == run, jobs.c.publishing))
            claimed = set(rows.scalars())
        return [work for work in await self.work(run) if work.job.id in claimed], blocked

    async def record_live(self, works: Sequence[Work]) -> None:
        """Searches find these versions now; the earlier ones are forgotten and their files discarded."""
        async with self._database.write(works[0].job.collection) as connection:
            await self._hold(connection, {work.run for work in works})
            ids = [work.job.document_id for work in works]
            mine = sa.and_(documents.c.collection == works[0].job.collection, documents.c.id.in_(ids))
            rows = await connection.execute(sa.select(documents.c.id, documents.c.live_version).where(mine))
            earlier = {row.id: row.live_version for row in rows}
            values = [live_values(work, earlier.get(work.job.document_id, "")) for work in works]
            await connection.execute(MAKE_LIVE, values)
            await connection.execute(POINT_TO_LIVE, values)
            for work in works:
                old = earlier.get(work.job.document_id, "")
                if old and old != work.version.id:
                    await self._drop_version(connection, work, old)
        self._changes.announce(work.job.id for work in works)

    async def live_versions(self, run: str) -> set[str]:
        """The versions that the run's jobs made live."""
        query = sa.select(jobs.c.version).where(jobs.c.run == run, jobs.c.state == JobState.SUCCEEDED)
        async with self._database.read() as connection:
            return set((await connection.execute(query)).scalars())

    async def fail(self, ids: Sequence[str], failure: Failure) -> None:
        """Gives up jobs that go on."""
        async with self._database.write() as connection:
            mine = jobs.c.run.in_(sa.select(runs.c.id).where(runs.c.worker == self._worker))
            going = sa.and_(jobs.c.id.in_(ids), jobs.c.state.in_(ACTIVE), mine)
            values = {"state": JobState.FAILED, "failure": asdict(failure), "publishing": False, "updated_us": now_us()}
            await connection.execute(jobs.update().where(going).values(**values))
        self._changes.announce(ids)

    async def finish(self, run: str) -> None:
        """Nothing is left to do for the run."""
        async with self._database.write() as connection:
            await connection.execute(runs.delete().where(runs.c.id == run, runs.c.worker == self._worker))

    async def discarded_keys(self, limit: int) -> list[str]:
        """Objects to delete."""
        async with self._database.read() as connection:
            return list((await connection.execute(sa.select(discarded.c.key).limit(limit))).scalars())

    async def forget_keys(self, keys: Sequence[str]) -> None:
        """These objects are deleted."""
        async with self._database.write() as connection:
            await connection.execute(discarded.delete().where(discarded.c.key.in_(keys)))

    async def _hold(self, connection: AsyncConnection, names: set[str]) -> None:
        """RunLost unless this worker carries the runs; until the transaction's end no other can take them."""
        query = sa.select(runs.c.id).where(runs.c.id.in_(names), runs.c.worker == self._worker).with_for_update()
        if len((await connection.execute(query)).all()) < len(names):
            raise RunLost(f"Another worker carries {', '.join(sorted(names))} now.")

    async def _advance(self, connection: AsyncConnection, ids: Sequence[str], stage: JobStage) -> set[str]:
        """Moves jobs that go on to a stage; answers with those."""
        going = sa.and_(jobs.c.id.in_(ids), jobs.c.state == JobState.RUNNING)
        moved = jobs.update().where(going).values(stage=stage, updated_us=now_us()).returning(jobs.c.id)
        return set((await connection.execute(moved)).scalars()) if ids else set()

    async def _drop_version(self, connection: AsyncConnection, work: Work, version: str) -> None:
        old = sa.and_(
            versions.c.collection == work.job.collection,
            versions.c.document == work.job.document_id,
            versions.c.id == version,
        )
        dropped = versions.delete().where(old).returning(versions.c.raw_key, versions.c.text_key)
        keys = [key for row in await connection.execute(dropped) for key in object_keys(row.raw_key, row.text_key)]
        await discard(self._database, connection, keys)
