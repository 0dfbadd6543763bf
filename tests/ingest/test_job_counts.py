"""The metric of jobs by state."""

from pathlib import Path

from prometheus_client import REGISTRY

from ingest.database import Database
from ingest.documents import Failure, NewUpload
from ingest.fair_queue import BatchLimits, FairQueue
from ingest.job_counts import count_jobs
from ingest.jobs import JobChanges
from ingest.registration import Registration, StoredUpload
from ingest.runs import Runs
from mesh.database import database_url, open_database
from mesh.errors import InvalidInput


def counted() -> dict[str, float | None]:
    states = ("queued", "running", "succeeded", "failed", "cancelled")
    return {state: REGISTRY.get_sample_value("murphey_ingest_jobs", {"state": state}) for state in states}


async def test_jobs_are_counted_by_state(tmp_path: Path) -> None:
    async with open_database(database_url("", tmp_path, "ingest"), "ingest") as engine:
        database, changes = Database(engine), JobChanges()
        registration, runs = Registration(database, changes), Runs(database, changes, "me")
        await count_jobs(database)
        assert counted() == {"queued": 0, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 0}
        for number in range(5):
            upload = NewUpload("c", f"{number}", {}, "")
            await registration.register(StoredUpload(upload, f"content {number}", 1, f"raw/{number}"))
        run = await FairQueue(database, changes, BatchLimits(2, 1000, 1)).take(room=1)
        assert run is not None
        await runs.claim(run)
        await count_jobs(database)
        assert counted() == {"queued": 3, "running": 2, "succeeded": 0, "failed": 0, "cancelled": 0}
        works = await runs.work(run)
        await runs.fail([works[0].job.id], Failure.of(InvalidInput("No text.")))
        await count_jobs(database)
        assert counted() == {"queued": 3, "running": 1, "succeeded": 0, "failed": 1, "cancelled": 0}
