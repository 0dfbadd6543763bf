"""The sending side of `murphey ingest` when the service goes away for good: it gives up and says so."""

from pathlib import Path

import grpc.aio
import pytest

from ingest import sending
from ingest.sending import Sender
from ingest.sources import Source
from mesh.errors import Unavailable
from mesh.server import Hosted, serving
from mesh.settings import ServiceSettings
from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1 import ingest_pb2_grpc as pb_grpc


class Forgetful(pb_grpc.IngestServiceServicer):
    """Takes an upload, and is never reached again."""

    async def UploadDocument(self, request_iterator, context):
        async for _ in request_iterator:
            pass
        return pb.UploadDocumentResponse(job=pb.Job(name="jobs/1", state=pb.JOB_STATE_QUEUED))

    async def ListJobs(self, request, context):
        raise Unavailable("The service is going down.")


async def test_waiting_for_jobs_of_a_dead_service_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PATIENCE_S", 0.5)
    (tmp_path / "a.txt").write_text("text")
    hosted = Hosted(
        "murphey.ingest.v1.IngestService",
        lambda server: pb_grpc.add_IngestServiceServicer_to_server(Forgetful(), server),
    )
    async with (
        serving(ServiceSettings(drain_s=0), [hosted]) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = pb_grpc.IngestServiceStub(channel)
        sender = Sender(stub, "collections/default", {}, lambda result: None, lambda progress: None)
        with pytest.raises(Unavailable):
            await sender.send([Source(tmp_path / "a.txt", "a.txt")])
