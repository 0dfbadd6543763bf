"""What ended long ago is forgotten, a document's last job is not."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dbos import DBOS

from ingest.database import Database
from ingest.pruning import Pruning
from ingest.raw_notes import RawNotes
from ingest.storage import Storage
from mesh.database import database_url, open_database
from murphey.ingest.v1 import ingest_pb2 as pb
from tests.ingest.conftest import running_service


@pytest.mark.slow
async def test_old_jobs_and_their_workflows_are_forgotten(tmp_path: Path, tokenizer_folder: Path) -> None:
    async with running_service(tmp_path, tokenizer_folder) as service:
        first = await service.ingest("page.txt", b"Old words. " * 20)
        last = await service.ingest("page.txt", b"New words. " * 20)
        async with open_database(database_url("", tmp_path, "ingest"), "ingest") as engine:
            notes = RawNotes(tmp_path, Storage.open("", tmp_path, tmp_path))
            pruning = Pruning(Database(engine), notes, keep_days=1)
            young = await pruning.prune(datetime.now(UTC) - timedelta(days=1))
            await service.ingest("after.txt", b"The runs before have ended when this one has.")
            await pruning.prune(datetime.now(UTC) + timedelta(seconds=1))
        left = {job.name for job in (await service.stub.ListJobs(pb.ListJobsRequest())).jobs}
        workflows = await DBOS.list_workflows_async(status="SUCCESS")
        document = await service.document("page.txt")

    assert young == (0, 0)
    assert first.name not in left
    assert last.name in left
    assert document.state == pb.DOCUMENT_STATE_LIVE
    assert len(workflows) <= 1  # the last one may end after the pruning
