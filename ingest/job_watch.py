"""A job as it changes, until it has ended."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from ingest.catalog import Catalog
from ingest.jobs import Job, JobChanges
from mesh.errors import Unavailable

WATCH_POLL_S = 2.0
"""Another process may carry a job on a shared database; its changes are seen at this pace."""
PUBLISHING_TIMEOUT_S = 30.0


class JobWatch:
    """Watches jobs, of this process and of others on the same database."""

    def __init__(self, catalog: Catalog, changes: JobChanges) -> None:
        self._catalog = catalog
        self._changes = changes

    async def watch(self, job: str) -> AsyncIterator[Job]:
        """The job now, then after each change, until it has ended."""
        with self._changes.watched(job) as changed:
            seen = await self._catalog.job(job)
            yield seen
            while not seen.state.ended:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), WATCH_POLL_S)
                changed.clear()
                now = await self._catalog.job(job)
                if now != seen:
                    yield now
                seen = now

    async def published(self, job: str) -> None:
        """When a job that is being published has ended. Unavailable when that takes too long."""

        async def ended() -> None:
            async for _ in self.watch(job):
                pass

        try:
            await asyncio.wait_for(ended(), PUBLISHING_TIMEOUT_S)
        except TimeoutError:
            raise Unavailable(f"jobs/{job} is just making the document live. Delete it again in a moment.") from None
