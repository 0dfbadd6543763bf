"""The sending side of `murphey ingest`: a service that goes away for good, files that change, jobs of an earlier command."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc.aio
import pytest

from ingest import patience
from ingest.origins.folders import LocalFile
from ingest.results import Result
from ingest.sending import Sender
from ingest.sources import Changed, Identity, Source
from mesh.errors import Unavailable
from mesh.server import Hosted, serving
from mesh.settings import ServiceSettings
from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1 import ingest_pb2_grpc as pb_grpc
from tests.ingest.conftest import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Forgetful(pb_grpc.IngestServiceServicer):
    """Takes an upload, and is never reached again."""

    async def CompareDocuments(self, request, context):
        return pb.CompareDocumentsResponse(documents=[{"comparison": pb.COMPARISON_NEW}] * len(request.files))

    async def UploadDocument(self, request_iterator, context):
        async for _ in request_iterator:
            pass
        return pb.UploadDocumentResponse(job=pb.Job(name="jobs/1", batch="b", state=pb.JOB_STATE_QUEUED))

    async def ListJobs(self, request, context):
        raise Unavailable("The service is going down.")


async def test_waiting_for_jobs_of_a_dead_service_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0.5)
    (tmp_path / "a.txt").write_text("text")
    hosted = Hosted(
        "murphey.ingest.v1.IngestService",
        lambda server: pb_grpc.add_IngestServiceServicer_to_server(Forgetful(), server),
    )
    async with (
        serving(ServiceSettings(drain_s=0), [hosted]) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        sender = Sender(pb_grpc.IngestServiceStub(channel), "collections/default", print, lambda progress: None)
        with pytest.raises(Unavailable):
            await sender.send([Source("a.txt", "a.txt", LocalFile(tmp_path / "a.txt"))])


@dataclass
class Restless:
    """A content that changes while it is read, so many times."""

    changes: int
    contents: list[bytes] = field(default_factory=list)
    identified: int = 0

    async def identify(self) -> Identity:
        self.identified += 1
        return Identity("", 0, str(self.identified))

    async def pieces(self, identity: Identity) -> AsyncGenerator[bytes, None]:
        yield f"Words of try {identity.stamp}.".encode()
        if self.identified <= self.changes:
            raise Changed


async def sent(service: Service, *sources: Source) -> list[Result]:
    results: list[Result] = []
    await Sender(service.stub, "collections/default", results.append, lambda progress: None).send(sources)
    return results


async def test_what_changes_while_it_is_read_is_read_once_more(service: Service) -> None:
    [result] = await sent(service, Source("restless", "restless.txt", content := Restless(changes=1)))
    assert (result.status, content.identified) == ("indexed", 2)
    assert await service.text(await service.document("restless.txt")) == "Words of try 2."


async def test_what_keeps_changing_fails_and_leaves_nothing(service: Service) -> None:
    before = set(service.objects())
    results = await sent(
        service,
        Source("restless", "keeps-changing.txt", Restless(changes=9)),
        Source("bad", "bad.txt", problem="It is bad."),
    )
    errors = {result.document: str(result.error) for result in results if result.status == "failed"}
    assert "changed while it was read" in errors["keeps-changing.txt"]
    assert errors["bad.txt"] == "It is bad."
    found = await service.stub.ListDocuments(pb.ListDocumentsRequest(display_name="keeps-changing.txt"), timeout=10)
    assert list(found.documents) == []
    async with asyncio.timeout(30):
        while set(service.objects()) - before:  # noqa: ASYNC110 - the service hears of a broken-off upload when it hears
            await asyncio.sleep(0.05)


async def test_a_file_that_is_not_what_its_hash_said_counts_as_changed(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Words that are there now.")

    @dataclass(frozen=True)
    class Lying(LocalFile):
        async def identify(self) -> Identity:
            return replace(await super().identify(), sha256="0" * 64)

    [result] = await sent(service, Source("a.txt", "lying.txt", Lying(path)))
    assert "changed while it was read" in str(result.error)


async def test_small_files_go_together_and_one_that_changes_goes_again_alone(service: Service, tmp_path: Path) -> None:
    class Growing(LocalFile):
        async def pieces(self, identity: Identity) -> AsyncGenerator[bytes, None]:
            if self.path.read_text() == "As it was.":
                self.path.write_text("As it became.")
            async for piece in super().pieces(identity):
                yield piece

    paths = [tmp_path / f"{number}.txt" for number in range(40)]
    for number, path in enumerate(paths):
        path.write_text(f"Words of number {number}." if number else "As it was.")
    sources = [
        Source(path.name, f"together/{path.name}", (Growing if path == paths[0] else LocalFile)(path)) for path in paths
    ]
    results = await sent(service, *sources)
    assert {result.document for result in results} == {source.display_name for source in sources}
    assert {result.status for result in results} == {"indexed"}
    assert await service.text(await service.document("together/0.txt")) == "As it became."
    assert await service.text(await service.document("together/39.txt")) == "Words of number 39."
    assert {result.status for result in await sent(service, *sources)} == {"unchanged"}


async def test_a_second_command_joins_what_the_first_one_sent(service: Service, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Words that take their time.")
    source = Source("a.txt", "joined.txt", LocalFile(tmp_path / "a.txt"))
    service.retriever.gate.clear()
    first = Sender(service.stub, "collections/default", print, lambda progress: None)
    identity = await LocalFile(tmp_path / "a.txt").identify()
    job = (await service.upload("joined.txt", (tmp_path / "a.txt").read_bytes(), batch=first.follower.batch)).job

    results: list[Result] = []
    progressed: list[int] = []

    def advance(progress) -> None:
        progressed.append(progress.stored)
        service.retriever.gate.set()

    await Sender(service.stub, "collections/default", results.append, advance).send([source])

    assert [(result.status, result.chunks) for result in results] == [("indexed", 1)]
    assert (await service.document("joined.txt")).job == job.name
    assert identity.sha256 == (await service.document("joined.txt")).sha256
