"""How many jobs there are in each state, as a metric.

All workers of a shared database show the same numbers: whoever adds them up takes the greatest, not the sum.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from ingest.database import Database, DatabaseAway
from ingest.jobs import JobState
from ingest.tables import jobs
from mesh import logs, metrics

log = logs.get(__name__)

EVERY_S = 5.0
SHARE_OF_TIME = 0.01
"""Counting many jobs takes long; it is then done less often, so that it takes no more of the time than this."""

_JOBS = metrics.gauge("ingest_jobs", "Jobs by state, of all workers together.", ("state",))


@asynccontextmanager
async def jobs_counted(database: Database) -> AsyncIterator[None]:
    """Keeps the metric true while inside."""
    task = asyncio.create_task(_keep(database))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _keep(database: Database) -> None:
    while True:
        started_s = time.monotonic()
        try:
            await count_jobs(database)
        except (DatabaseAway, SQLAlchemyError) as error:
            log.warning("jobs_not_counted", error=str(error).splitlines()[0][:200])
        await asyncio.sleep(max(EVERY_S, (time.monotonic() - started_s) / SHARE_OF_TIME))


async def count_jobs(database: Database) -> None:
    """Sets the metric once. DatabaseAway when the database does not answer."""
    query = sa.select(jobs.c.state, sa.func.count().label("jobs")).group_by(jobs.c.state)
    async with database.read() as connection:
        found = {row.state: row.jobs for row in await connection.execute(query)}
    for state in JobState:
        _JOBS.labels(state.name.lower()).set(found.get(state, 0))
