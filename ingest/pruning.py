"""Forgets what has ended long ago: jobs, and the workflow engine's history of the runs that carried them; and removes the
files of uploads that ended before they were registered."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from dbos import DBOS
from sqlalchemy.exc import SQLAlchemyError

from ingest.database import Database, DatabaseAway
from ingest.jobs import JobState
from ingest.raw_notes import RawNotes
from ingest.storage import StorageAway
from ingest.tables import documents, jobs, runs
from mesh import logs

log = logs.get(__name__)

EVERY_S = 60.0
PRUNE_EVERY = 60
"""Turns: once an hour."""
AT_ONCE = 500
ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class Pruning:
    """By age. A document's last job is kept for as long as the document."""

    def __init__(self, database: Database, notes: RawNotes, keep_days: float) -> None:
        self._database = database
        self._notes = notes
        self._keep = timedelta(days=keep_days)

    async def keep(self) -> None:
        """Now and then, for as long as the service lives."""
        for turn in itertools.count():
            try:
                await self._notes.sweep(self._database)
                if turn % PRUNE_EVERY == 0:
                    await self.prune(datetime.now(UTC) - self._keep)
            except (DatabaseAway, StorageAway, SQLAlchemyError) as error:
                log.warning("not_pruned", error=str(error).splitlines()[0][:200])
            await asyncio.sleep(EVERY_S)

    async def prune(self, before: datetime) -> tuple[int, int]:
        """Forgets what ended before; answers how many jobs and workflows that were."""
        pruned = await self._prune_jobs(int(before.timestamp() * 1e6)), await self._prune_workflows(before)
        if any(pruned):
            log.info("pruned", jobs=pruned[0], workflows=pruned[1])
        return pruned

    async def _prune_jobs(self, before_us: int) -> int:
        last = sa.exists().where(documents.c.job == jobs.c.id, documents.c.collection == jobs.c.collection,
                                 documents.c.id == jobs.c.document)  # fmt: skip
        at_work = sa.exists().where(runs.c.id == jobs.c.run)
        old = sa.and_(jobs.c.state.in_(ENDED), jobs.c.updated_us < before_us, ~last, ~at_work)
        some = sa.select(jobs.c.id).where(old).limit(AT_ONCE)
        pruned = 0
        while True:  # a few at a time, so that other writers come in between
            async with self._database.write() as connection:
                gone = (await connection.execute(jobs.delete().where(jobs.c.id.in_(some)))).rowcount
            pruned += gone
            if gone < AT_ONCE:
                return pruned

    async def _prune_workflows(self, before: datetime) -> int:
        pruned = 0
        while True:
            found = await DBOS.list_workflows_async(
                status=["SUCCESS", "ERROR", "CANCELLED"], completed_before=before.isoformat(), limit=AT_ONCE,
                load_input=False, load_output=False,
            )  # fmt: skip
            if not found:
                return pruned
            await DBOS.delete_workflows_async([workflow.workflow_id for workflow in found])
            pruned += len(found)
