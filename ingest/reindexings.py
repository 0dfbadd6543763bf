"""What is known of collections that are indexed anew: which documents their other index has, and how far the job is.

A row of `copies` is written before anything of its version goes to the other index, and is done only once the version has
been seen to be live after it got there: so whatever is replaced or deleted meanwhile is found again, and taken out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.database import Database
from ingest.documents import Failure
from ingest.jobs import Job, JobChanges, JobKind, JobOutcome, JobStage, JobState, new_id, now_us
from ingest.rows import to_job, to_version
from ingest.run_statements import Work
from ingest.runs import RunLost
from ingest.tables import VERSION_IS_LIVE, copies, documents, jobs, reindexings, versions
from mesh.access.tenants import public
from mesh.errors import FailedPrecondition
from mesh.names import collection_name

_BATCH_CANDIDATES = 256


@dataclass(frozen=True)
class Reindexing:
    """From which index to which; `kept`: that one was there before."""

    collection: str
    job: str
    index_version: str
    former_version: str
    kept: bool
    closing: bool


class Reindexings:
    """The queries. What changes a collection's reindexing needs this worker to carry it, and raises RunLost otherwise."""

    def __init__(self, database: Database, changes: JobChanges, worker: str) -> None:
        self._database, self._changes, self._worker = database, changes, worker

    async def begin(self, collection: str, index_version: str, former: str, *, kept: bool, batch: str) -> Job:
        """A job for it, or the one that does the same already. FailedPrecondition while another one goes on."""
        now, job = now_us(), new_id()
        async with self._database.write(collection) as connection:
            there = await _row(connection, collection)
            if there is not None and there.index_version != index_version:
                raise FailedPrecondition(
                    f"jobs/{there.job} indexes {public(collection)} anew. Let it end, or cancel it first."
                )
            if there is None:
                await connection.execute(jobs.insert(), {
                    "id": job, "collection": collection, "document": "", "display_name": collection_name(collection),
                    "version": index_version[:64], "batch": batch, "size_bytes": 0, "state": JobState.RUNNING,
                    "stage": JobStage.STORED, "outcome": JobOutcome.UNSPECIFIED, "publishing": False, "run": "",
                    "total_chunks": 0, "indexed_chunks": 0, "failure": None, "created_us": now, "updated_us": now,
                    "kind": JobKind.REINDEX, "total_documents": await _live_documents(connection, collection),
                })  # fmt: skip
                await connection.execute(reindexings.insert(), {
                    "collection": collection, "job": job, "index_version": index_version, "former_version": former,
                    "kept": kept, "closing": False, "worker": "",
                })  # fmt: skip
            named = there.job if there is not None else job
            return to_job((await connection.execute(sa.select(jobs).where(jobs.c.id == named))).one())

    async def of(self, collection: str) -> Reindexing | None:
        """The collection's, if it is indexed anew now."""
        async with self._database.read() as connection:
            row = await _row(connection, collection)
        return _reindexing(row) if row is not None else None

    async def waiting(self) -> list[str]:
        """Collections whose reindexing no worker carries."""
        async with self._database.read() as connection:
            return list((await connection.execute(
                sa.select(reindexings.c.collection).where(reindexings.c.worker == "").order_by(reindexings.c.job)
            )).scalars())  # fmt: skip

    async def claim(self, collection: str) -> Reindexing | None:
        """This worker carries it from now on; None when another one does."""
        free = sa.and_(reindexings.c.collection == collection, reindexings.c.worker == "")
        async with self._database.write() as connection:
            if (await connection.execute(reindexings.update().where(free).values(worker=self._worker))).rowcount != 1:
                return None
            return _reindexing(await _row(connection, collection))

    async def going(self, reindexing: Reindexing) -> bool:
        """Whether the job has not been cancelled. RunLost when another worker carries it."""
        async with self._database.read() as connection:
            await self._hold(connection, reindexing)
            state = (await connection.execute(sa.select(jobs.c.state).where(jobs.c.id == reindexing.job))).scalar_one()
        return JobState(state) == JobState.RUNNING

    async def missing(self, reindexing: Reindexing, max_documents: int, max_bytes: int) -> list[Work]:
        """Live versions that the other index lacks: the next few of them, by document."""
        there = sa.and_(
            copies.c.collection == versions.c.collection, copies.c.document == versions.c.document,
            copies.c.version == versions.c.id, copies.c.index_version == reindexing.index_version,
            copies.c.content_key == versions.c.content_key, copies.c.done,
        )  # fmt: skip
        query = (
            sa.select(documents.c.display_name, *versions.c)
            .join(versions, VERSION_IS_LIVE)
            .where(documents.c.collection == reindexing.collection, ~sa.exists().where(there))
            .order_by(documents.c.id)
            .limit(min(max_documents, _BATCH_CANDIDATES))
        )
        works: list[Work] = []
        size_bytes = 0
        async with self._database.read() as connection:
            for row in await connection.execute(query):
                size_bytes += row.text_bytes
                if works and size_bytes > max_bytes:
                    break
                works.append(_work(row))
        return works

    async def stale(self, reindexing: Reindexing) -> list[tuple[str, str]]:
        """Documents and versions that the other index may have and that are not live."""
        live = sa.and_(
            documents.c.collection == copies.c.collection, documents.c.id == copies.c.document,
            documents.c.live_version == copies.c.version,
        )  # fmt: skip
        query = sa.select(copies.c.document, copies.c.version).where(_of(reindexing), ~sa.exists().where(live))
        async with self._database.read() as connection:
            return [(row.document, row.version) for row in await connection.execute(query)]

    async def intend(self, reindexing: Reindexing, works: Sequence[Work]) -> None:
        """From now on anything of these versions may be in the other index."""
        statement = self._database.insert(copies)
        anew = {"done": False, "content_key": statement.excluded.content_key}
        statement = statement.on_conflict_do_update(index_elements=list(copies.primary_key.columns), set_=anew)
        rows = [{
            "collection": reindexing.collection, "document": work.job.document_id, "version": work.version.id,
            "index_version": reindexing.index_version, "content_key": work.version.content_key, "chunk_count": 0,
            "chunking": "", "done": False,
        } for work in works]  # fmt: skip
        async with self._database.write(reindexing.collection) as connection:
            await self._hold(connection, reindexing)
            await connection.execute(statement, rows)

    async def record(self, reindexing: Reindexing, counts: Sequence[tuple[Work, int]], chunking: str) -> None:
        """These versions are in the other index with so many chunks. Those that are not live any more are left undone."""
        live = sa.exists().where(
            documents.c.collection == copies.c.collection, documents.c.id == copies.c.document,
            documents.c.live_version == copies.c.version,
        )  # fmt: skip
        mine = copies.update().where(
            _of(reindexing), copies.c.document == sa.bindparam("b_document"),
            copies.c.version == sa.bindparam("b_version"), live,
        )  # fmt: skip
        rows = [
            {"b_document": work.job.document_id, "b_version": work.version.id, "count": count} for work, count in counts
        ]
        async with self._database.write(reindexing.collection) as connection:
            await self._hold(connection, reindexing)
            await connection.execute(mine.values(done=True, chunk_count=sa.bindparam("count"), chunking=chunking), rows)
            await self._show_progress(connection, reindexing)
        self._changes.announce([reindexing.job])

    async def forget(self, reindexing: Reindexing, gone: Sequence[tuple[str, str]]) -> None:
        """These versions are no longer in the other index."""
        async with self._database.write(reindexing.collection) as connection:
            await self._hold(connection, reindexing)
            for document, version in gone:
                mine = sa.and_(copies.c.document == document, copies.c.version == version)
                await connection.execute(copies.delete().where(_of(reindexing), mine))

    async def close(self, reindexing: Reindexing) -> bool:
        """Lets nothing be published any more; whether nothing is just being published either. It cannot be cancelled now.

        False too when the job was cancelled before.
        """
        async with self._database.write(reindexing.collection) as connection:
            await self._hold(connection, reindexing)
            mine = sa.and_(jobs.c.id == reindexing.job, jobs.c.state == JobState.RUNNING)
            held = jobs.update().where(mine).values(publishing=True, stage=JobStage.INDEXED, updated_us=now_us())
            if (await connection.execute(held)).rowcount != 1:
                return False
            here = reindexings.c.collection == reindexing.collection
            await connection.execute(reindexings.update().where(here).values(closing=True))
            others = sa.and_(jobs.c.collection == reindexing.collection, jobs.c.publishing, jobs.c.id != reindexing.job)
            publishing = (await connection.execute(sa.select(jobs.c.id).where(others).limit(1))).first()
        self._changes.announce([reindexing.job])
        return publishing is None

    async def finish(self, reindexing: Reindexing) -> None:
        """Searches use the other index: its chunks are those that versions have, and the former one is kept beside."""
        collection, target, former = reindexing.collection, reindexing.index_version, reindexing.former_version
        async with self._database.write(collection) as connection:
            await self._hold(connection, reindexing)
            of_target = sa.and_(
                copies.c.collection == versions.c.collection, copies.c.document == versions.c.document,
                copies.c.version == versions.c.id, copies.c.index_version == target,
            )  # fmt: skip
            here = sa.and_(copies.c.collection == collection, copies.c.index_version != target)
            await connection.execute(copies.delete().where(here))
            kept = sa.select(
                versions.c.collection, versions.c.document, versions.c.id, sa.literal(former), versions.c.content_key,
                versions.c.chunk_count, versions.c.chunking, sa.true(),
            ).join(documents, VERSION_IS_LIVE)  # fmt: skip
            names = [column.name for column in copies.c]
            await connection.execute(
                copies.insert().from_select(names, kept.where(versions.c.collection == collection))
            )
            taken = {
                name: sa.select(copies.c[name]).where(of_target).scalar_subquery()
                for name in ("chunk_count", "chunking")
            }
            mine = sa.and_(versions.c.collection == collection, sa.exists().where(of_target))
            await connection.execute(versions.update().where(mine).values(**taken))
            await self._show_progress(connection, reindexing)
            await connection.execute(copies.delete().where(_of(reindexing)))
            ended = {"state": JobState.SUCCEEDED, "stage": JobStage.LIVE, "outcome": JobOutcome.REPLACED}
            await self._end(connection, reindexing, ended)
        self._changes.announce([reindexing.job])

    async def give_up(self, reindexing: Reindexing, failure: Failure | None) -> None:
        """The other index is gone, or kept as it was before; the job was cancelled, or failed."""
        async with self._database.write(reindexing.collection) as connection:
            await self._hold(connection, reindexing)
            if not reindexing.kept:
                await connection.execute(copies.delete().where(_of(reindexing)))
            values = {"state": JobState.FAILED, "failure": asdict(failure)} if failure else {}
            await self._end(connection, reindexing, values)
        self._changes.announce([reindexing.job])

    async def kept_indexes(self) -> set[tuple[str, str]]:
        """Collections and versions of all indexes besides live ones that are known."""
        async with self._database.read() as connection:
            found = (await connection.execute(sa.select(copies.c.collection, copies.c.index_version).distinct())).all()
            going = (await connection.execute(
                sa.select(reindexings.c.collection, reindexings.c.index_version, reindexings.c.former_version)
            )).all()  # fmt: skip
        known = {(row.collection, row.index_version) for row in [*found, *going]}
        return known | {(row.collection, row.former_version) for row in going}

    async def _show_progress(self, connection: AsyncConnection, reindexing: Reindexing) -> None:
        done = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(copies.c.chunk_count), 0))
        count, chunks = (await connection.execute(done.where(_of(reindexing), copies.c.done))).one()
        total = await _live_documents(connection, reindexing.collection)
        shown = {"indexed_documents": count, "total_documents": max(total, count), "indexed_chunks": chunks}
        mine = jobs.update().where(jobs.c.id == reindexing.job)
        await connection.execute(mine.values(**shown, total_chunks=chunks, updated_us=now_us()))

    async def _end(self, connection: AsyncConnection, reindexing: Reindexing, values: Mapping[str, Any]) -> None:
        await connection.execute(reindexings.delete().where(reindexings.c.collection == reindexing.collection))
        mine = jobs.update().where(jobs.c.id == reindexing.job)
        await connection.execute(mine.values(**values, publishing=False, updated_us=now_us()))

    async def _hold(self, connection: AsyncConnection, reindexing: Reindexing) -> None:
        query = sa.select(reindexings.c.job).where(
            reindexings.c.collection == reindexing.collection, reindexings.c.worker == self._worker,
            reindexings.c.job == reindexing.job,
        )  # fmt: skip
        if (await connection.execute(query.with_for_update())).first() is None:
            raise RunLost(f"Another worker carries jobs/{reindexing.job} now.")


def _of(reindexing: Reindexing) -> Any:
    return sa.and_(copies.c.collection == reindexing.collection, copies.c.index_version == reindexing.index_version)


async def _row(connection: AsyncConnection, collection: str) -> Any:
    query = sa.select(reindexings).where(reindexings.c.collection == collection)
    return (await connection.execute(query)).one_or_none()


def _reindexing(row: Any) -> Reindexing:
    return Reindexing(row.collection, row.job, row.index_version, row.former_version, row.kept, row.closing)


async def _live_documents(connection: AsyncConnection, collection: str) -> int:
    mine = sa.and_(documents.c.collection == collection, documents.c.live_version != "")
    return (await connection.execute(sa.select(sa.func.count()).select_from(documents).where(mine))).scalar_one()


def _work(row: Any) -> Work:
    """A live version as the pipeline takes it; the job's id is the document's."""
    job = Job(
        row.document, row.collection, row.document, row.display_name, "", JobState.RUNNING, JobStage.PARSED,
        JobOutcome.UNSPECIFIED, 0, 0, None, 0, 0,
    )  # fmt: skip
    return Work(job, to_version(row), "")
