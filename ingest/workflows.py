"""The durable side of the pipeline: each run is a DBOS workflow with a step a stage, taken from a queue.

DBOS keeps which steps are done, and hands each workflow to one process. What a process carried that was killed is put back
into the queue by the others, or by itself at its next start, and goes on with the stage that was interrupted. Waiting jobs
are grouped into runs only when there is room for one: while work is under way, uploads pile up, and the next run carries
more of them.
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from dbos import DBOS, DBOSConfig, SetWorkflowID
from dbos import _logger as dbos_logging
from sqlalchemy.exc import SQLAlchemyError

from ingest.database import DatabaseAway
from ingest.fair_queue import FairQueue
from ingest.index.chunk_index import IndexReplaced
from ingest.pipeline import Pipeline
from ingest.pruning import Pruning
from ingest.reindexing import Reindexer
from ingest.runs import RunLost, Runs
from ingest.storage import StorageAway
from ingest.workers import Workers
from mesh import logs, metrics
from mesh.errors import Internal, MurpheyError

log = logs.get(__name__)

QUEUE = "ingest"
APPLICATION_VERSION = "1"
"""A workflow goes on only in a process of the same version: raise it when the steps change."""
QUEUE_POLL_S = 0.25
SPARE_RUNS = 1
"""Runs that wait in the queue, so that a worker never waits for the next."""
LOOK_AGAIN_S = 1.0
BEAT_S = 1.0
FIRST_PAUSE_S, LAST_PAUSE_S = 0.2, 5.0
ENDED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
FIRST_EXECUTOR = "ingest"
"""What the only worker called itself before there could be several."""

Result = TypeVar("Result")

_STAGES = metrics.histogram(
    "ingest_stage_seconds", "Time that a run of documents spends in a stage, waiting for others included.", ("stage",),
    (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)  # fmt: skip


class Workflows:
    """Starts runs for waiting jobs and carries them through the pipeline."""

    def __init__(self, queue: FairQueue, runs: Runs, pipeline: Pipeline, runs_at_once: int) -> None:
        self._queue = queue
        self._runs = runs
        self._pipeline = pipeline
        self._room = runs_at_once + SPARE_RUNS
        self._tasks: set[asyncio.Task[object]] = set()
        self._wake = asyncio.Event()

        async def carry(run: str) -> None:  # a function, because DBOS cannot mark a bound method
            await self._carry_run(run)

        self._carry = DBOS.workflow(name="ingest.carry", max_recovery_attempts=None)(carry)

    def wake(self) -> None:
        """There are new jobs, or room for a run."""
        self._wake.set()

    async def dispatch(self) -> None:
        """Groups waiting jobs into runs for as long as the service lives."""
        while True:
            self._wake.clear()
            try:
                while (room := self._room - len(self._tasks)) > 0 and (run := await self._queue.take(room)):
                    await self._enqueue(run)
            except DatabaseAway as error:
                log.warning("database_away", error=error.message)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_AGAIN_S)

    async def enqueue_waiting(self) -> None:
        """Sees to it that every run that no worker carries stands in DBOS's queue, whatever became of its workflow."""
        for run in await self._runs.waiting():
            status = await DBOS.get_workflow_status_async(run)
            if status is not None and status.status not in ENDED:
                continue
            if status is not None:
                await DBOS.delete_workflow_async(run)
            await self._enqueue(run)

    async def stop(self) -> None:
        """Interrupts what is under way; it goes on at the next start, or at another worker."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _enqueue(self, run: str) -> None:
        with SetWorkflowID(run):
            await DBOS.enqueue_workflow_async(QUEUE, self._carry, run)

    async def _carry_run(self, run: str) -> None:
        """The workflow."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._tasks.add(task)
        self._wake.set()
        try:
            if await _outlasting(lambda: self._runs.claim(run)):
                await self._pass_stages(run)
        except RunLost:
            log.warning("run_lost", run=run)
            raise asyncio.CancelledError from None  # so that DBOS leaves the workflow to the worker that has it
        finally:
            self._tasks.discard(task)
            self._wake.set()

    async def _pass_stages(self, run: str) -> None:
        pipeline = self._pipeline
        for name, stage in (("parse", pipeline.parse), ("chunk", pipeline.chunk), ("index", pipeline.index),
                            ("publish", pipeline.publish)):  # fmt: skip
            await DBOS.run_step_async({"name": name}, self._guarded, stage, run)
        await DBOS.run_step_async({"name": "clean"}, self._cleaned, run)

    async def _guarded(self, stage: Callable[[str], Awaitable[None]], run: str) -> None:
        """A stage that fails as a whole fails the jobs of the run, and the workflow goes on to clean up."""
        started_s = time.monotonic()
        try:
            await _outlasting(lambda: stage(run))
        except RunLost:
            raise
        except IndexReplaced as error:
            log.info("run_begins_again", run=run, reason=str(error))
            await _outlasting(lambda: self._runs.requeue(run))
            self._wake.set()
        except MurpheyError as error:
            await _outlasting(partial(self._pipeline.fail_all, run, error))
        except Exception:
            log.exception("stage_failed", run=run, stage=stage.__name__)
            failure = Internal("Ingest failed on its own side; its log says why.")
            await _outlasting(lambda: self._pipeline.fail_all(run, failure))
        finally:
            _STAGES.labels(stage.__name__).observe(time.monotonic() - started_s)

    async def _cleaned(self, run: str) -> None:
        try:
            await _outlasting(lambda: self._pipeline.clean(run))
        except RunLost:
            raise
        except MurpheyError as error:
            log.warning("run_not_cleaned", run=run, error=error.message)
            await _outlasting(lambda: self._runs.finish(run))


async def _outlasting(call: Callable[[], Awaitable[Result]]) -> Result:
    """Calls again for as long as the database or the object store is away or full: no job fails for that.

    What is called can be begun again.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await call()
        except (DatabaseAway, StorageAway) as error:
            log.warning("store_away", error=error.message, retry_in_s=pause_s)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LAST_PAUSE_S)


async def _keep(work: Callable[[], Awaitable[None]]) -> None:
    """Begins work again that ended by an error which nobody foresaw: without it the service would seem well and do nothing."""
    while True:
        try:
            return await work()
        except Exception:
            log.exception("work_failed", work=work.__qualname__, again_in_s=LAST_PAUSE_S)
        await asyncio.sleep(LAST_PAUSE_S)


class Attendance:
    """Keeps this worker's row fresh, and hands on what dead workers carried."""

    def __init__(self, workers: Workers, runs: Runs, workflows: Workflows) -> None:
        self._workers = workers
        self._runs = runs
        self._workflows = workflows

    async def begin(self) -> None:
        """Joins, and takes up what was left before."""
        await self._workers.join()
        await self._hand_on(FIRST_EXECUTOR)
        await self._look_after()

    async def keep(self) -> None:
        """For as long as the service lives."""
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                if not await self._workers.beat():
                    log.error(
                        "worker_expelled", worker=self._workers.id, then="it ends, and its supervisor starts it anew"
                    )
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                await self._look_after()
            except DatabaseAway as error:
                log.warning("database_away", error=error.message)
            except SQLAlchemyError as error:  # of DBOS's own database
                log.warning("workflow_database_away", error=str(error).splitlines()[0][:200])

    async def _look_after(self) -> None:
        for worker in await self._workers.dead():
            log.info("worker_gone", worker=worker)
            await self._hand_on(worker)
            await self._workers.forget(worker)
        await self._workflows.enqueue_waiting()

    async def _hand_on(self, worker: str) -> None:
        """In this order, so that whoever dies on the way leaves what the next one can finish."""
        await self._runs.disown(worker)
        await asyncio.to_thread(DBOS._recover_pending_workflows, [worker])
        left = await DBOS.list_workflows_async(
            status="PENDING", executor_id=worker, app_version=APPLICATION_VERSION, load_input=False, load_output=False
        )
        if left:
            raise DatabaseAway(f"{len(left)} runs of the worker {worker} could not be put back into the queue yet.")


@asynccontextmanager
async def open_workflows(
    url: str,
    queue: FairQueue,
    runs: Runs,
    pipeline: Pipeline,
    workers: Workers,
    pruning: Pruning,
    runs_at_once: int,
    reindexer: Reindexer,
) -> AsyncIterator[Workflows]:
    """Workflows that run while inside. DBOS is one per process, offers no port and tells no one anything."""
    DBOS(config=_config(url, workers.id))
    _log_through_mesh()
    workflows = Workflows(queue, runs, pipeline, runs_at_once)
    attendance = Attendance(workers, runs, workflows)
    try:
        await asyncio.to_thread(DBOS.listen_queues, [QUEUE])
        DBOS.launch()
        await DBOS.register_queue_async(
            QUEUE, worker_concurrency=runs_at_once, polling_interval_sec=QUEUE_POLL_S, on_conflict="always_update"
        )
        await attendance.begin()
        tasks = [
            asyncio.create_task(_keep(work))
            for work in (workflows.dispatch, attendance.keep, pruning.keep, reindexer.keep)
        ]
        try:
            yield workflows
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await workflows.stop()
    finally:
        await asyncio.to_thread(DBOS.destroy, destroy_registry=True)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())  # DBOS had put its own in its place
        with contextlib.suppress(DatabaseAway):
            await workers.leave()


def _config(url: str, worker: str) -> DBOSConfig:
    return DBOSConfig(
        name="murphey-ingest",
        system_database_url=url,
        application_version=APPLICATION_VERSION,
        executor_id=worker,
        log_level="WARNING",
        enable_otlp=False,
        max_executor_threads=8,
        notification_listener_polling_interval_sec=1.0,
    )


def _log_through_mesh() -> None:
    """DBOS's lines go where all others go."""
    dbos_logging.dbos_logger.handlers.clear()
    dbos_logging.dbos_logger.propagate = True
    logging.getLogger("dbos").setLevel(logging.WARNING)
