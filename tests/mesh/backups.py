"""A mesh of ingest and the retriever that is backed up while it runs, and what is restored of it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration
from typer.testing import CliRunner

from ingest.backup import BackedUpDocuments, database_of
from mesh.backup.backing_up import BackingUp, Sources
from mesh.backup.manifest import Manifest
from mesh.backup.place import Place
from mesh.cli import build
from murphey.ingest.v1 import ingest_pb2 as pb
from retriever.backup import BackedUpChunks
from retriever.catalog import FileCatalog
from tests.ingest.conftest import Service, running_service
from tests.ingest.real_retriever import RealRetriever, serving_real_retriever


@dataclass
class RunningMesh:
    """Ingest and a retriever on one data folder."""

    data: Path
    service: Service
    retriever: RealRetriever
    told: dict[str, int] = field(default_factory=dict)

    async def back_up(self, place: Place, tell: Any = None) -> Manifest:
        """While it runs."""
        chunks = BackedUpChunks(FileCatalog(self.data / "retriever" / "catalog.json"), self.retriever.stub)
        settings = self.service.settings
        documents = BackedUpDocuments(settings)
        try:
            sources = Sources({"ingest": database_of(settings)}, chunks, documents, self.data)
            return await BackingUp(sources, place, tell or self._tell).run()
        finally:
            documents.close()

    def _tell(self, what: str, more: int) -> None:
        self.told[what] = self.told.get(what, 0) + more

    async def texts(self) -> dict[str, str]:
        """What is stored of every document."""
        listed = (await self.service.stub.ListDocuments(pb.ListDocumentsRequest(page_size=1000))).documents
        return {document.display_name: await self.service.text(document) for document in listed}

    async def answers(self, *questions: str) -> list[list[tuple[str, float]]]:
        """What searches find, with its scores."""
        found = [await self.retriever.found(question, limit=10) for question in questions]
        return [[(chunk.id, chunk.span.start) for chunk in chunks] for chunks in found]

    async def orphans(self) -> list[pb.Orphan]:
        """All, however young."""
        request = pb.FindOrphansRequest(minimum_age=Duration())
        found = [answer async for answer in self.service.stub.FindOrphans(request, timeout=60)]
        return [answer.orphan for answer in found if answer.HasField("orphan")]


@asynccontextmanager
async def running_mesh(data: Path, tokenizer: Path) -> AsyncIterator[RunningMesh]:
    """One on a data folder, new or not."""
    (data / "retriever").mkdir(parents=True, exist_ok=True)
    async with (
        serving_real_retriever(data / "retriever") as retriever,
        running_service(data, tokenizer, retriever.target) as service,
    ):
        yield RunningMesh(data, service, retriever)


def murphey(*arguments: str) -> dict[str, Any]:
    """What a command prints for machines. It must succeed."""
    done = CliRunner().invoke(build(), [*arguments, "--json"])
    assert done.exit_code == 0, f"{done.output} {done.exception!r}"
    return json.loads(done.stdout.splitlines()[-1])


def refused(*arguments: str) -> str:
    """Why a command fails."""
    done = CliRunner().invoke(build(), list(arguments))
    assert done.exit_code == 1, f"{done.output} {done.exception!r}"
    return " ".join(done.stderr.split())
