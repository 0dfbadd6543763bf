"""The durable side of the pipeline: each run is a DBOS workflow with a step a stage, taken from a queue.

DBOS keeps which steps are done; a process that was killed finds its workflows again at the next start and goes on with the
stage that was interrupted. Waiting jobs are grouped into runs only when there is room for one: while work is under way,
uploads pile up, and the next run carries more of them.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from dbos import DBOS, DBOSConfig, SetWorkflowID
from dbos import _logger as dbos_logging

from ingest.pipeline import Pipeline
from ingest.runs import BatchLimits, Runs
from mesh import logs
from mesh.errors import Internal, MurpheyError

log = logs.get(__name__)

QUEUE = "ingest"
APPLICATION_VERSION = "1"
"""A workflow goes on only in a process of the same version: raise it when the steps change."""
QUEUE_POLL_S = 0.1
SPARE_RUNS = 1
"""Runs that wait in the queue, so that a worker never waits for the next."""
LOOK_AGAIN_S = 5.0


class Workflows:
    """Starts runs for waiting jobs and carries them through the pipeline."""

    def __init__(self, runs: Runs, pipeline: Pipeline, batches: BatchLimits, runs_at_once: int) -> None:
        self._runs = runs
        self._pipeline = pipeline
        self._batches = batches
        self._room = runs_at_once + SPARE_RUNS
        self._under_way: set[str] = set()
        self._tasks: set[asyncio.Task[object]] = set()
        self._wake = asyncio.Event()

        async def carry(run: str) -> None:  # a function, because DBOS cannot mark a bound method
            await self._carry_run(run)

        self._carry = DBOS.workflow(name="ingest.carry", max_recovery_attempts=None)(carry)

    def wake(self) -> None:
        """There are new jobs, or room for a run."""
        self._wake.set()

    async def resume(self) -> None:
        """Takes up the runs that an earlier process left. One that DBOS knows already is not started twice."""
        for run in await self._runs.unfinished():
            await self._enqueue(run)

    async def dispatch(self) -> None:
        """Groups waiting jobs into runs for as long as the service lives."""
        while True:
            self._wake.clear()
            while len(self._under_way) < self._room and (run := await self._runs.start(self._batches)) is not None:
                await self._enqueue(run)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_AGAIN_S)

    async def stop(self) -> None:
        """Interrupts what is under way; it goes on at the next start."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _enqueue(self, run: str) -> None:
        self._under_way.add(run)
        with SetWorkflowID(run):
            await DBOS.enqueue_workflow_async(QUEUE, self._carry, run)

    async def _carry_run(self, run: str) -> None:
        """The workflow."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._tasks.add(task)
        try:
            await self._pass_stages(run)
        finally:
            self._tasks.discard(task)
            self._under_way.discard(run)
            self._wake.set()

    async def _pass_stages(self, run: str) -> None:
        pipeline = self._pipeline
        for name, stage in (("parse", pipeline.parse), ("chunk", pipeline.chunk), ("index", pipeline.index),
                            ("publish", pipeline.publish)):  # fmt: skip
            await DBOS.run_step_async({"name": name}, self._guarded, stage, run)
        await DBOS.run_step_async({"name": "clean"}, self._cleaned, run)

    async def _guarded(self, stage: Callable[[str], Awaitable[None]], run: str) -> None:
        """A stage that fails as a whole fails the jobs of the run, and the workflow goes on to clean up."""
        try:
            await stage(run)
        except MurpheyError as error:
            await self._pipeline.fail_all(run, error)
        except Exception:
            log.exception("stage_failed", run=run, stage=stage.__name__)
            await self._pipeline.fail_all(run, Internal("Ingest failed on its own side; its log says why."))

    async def _cleaned(self, run: str) -> None:
        try:
            await self._pipeline.clean(run)
        except MurpheyError as error:
            log.warning("run_not_cleaned", run=run, error=error.message)
            await self._runs.finish(run)


@asynccontextmanager
async def open_workflows(
    url: str, runs: Runs, pipeline: Pipeline, batches: BatchLimits, runs_at_once: int
) -> AsyncIterator[Workflows]:
    """Workflows that run while inside. DBOS is one per process, offers no port and tells no one anything."""
    config = DBOSConfig(
        name="murphey-ingest",
        system_database_url=url,
        application_version=APPLICATION_VERSION,
        executor_id="ingest",
        log_level="WARNING",
        enable_otlp=False,
        max_executor_threads=8,
        notification_listener_polling_interval_sec=1.0,
    )
    DBOS(config=config)
    _log_through_mesh()
    workflows = Workflows(runs, pipeline, batches, runs_at_once)
    try:
        await asyncio.to_thread(DBOS.listen_queues, [QUEUE])
        DBOS.launch()
        await DBOS.register_queue_async(
            QUEUE, worker_concurrency=runs_at_once, polling_interval_sec=QUEUE_POLL_S, on_conflict="always_update"
        )
        await workflows.resume()
        dispatcher = asyncio.create_task(workflows.dispatch())
        try:
            yield workflows
        finally:
            dispatcher.cancel()
            await asyncio.gather(dispatcher, return_exceptions=True)
            await workflows.stop()
    finally:
        await asyncio.to_thread(DBOS.destroy, destroy_registry=True)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())  # DBOS had put its own in its place


def _log_through_mesh() -> None:
    """DBOS's lines go where all others go."""
    dbos_logging.dbos_logger.handlers.clear()
    dbos_logging.dbos_logger.propagate = True
    logging.getLogger("dbos").setLevel(logging.WARNING)
