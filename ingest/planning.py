"""What must be done with each source: identifies its content and asks the service how that compares. Sends nothing."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from ingest.documents import Metadata
from ingest.metadata_messages import to_struct
from ingest.patience import Patience
from ingest.results import Result, Status
from ingest.sources import Identity, Source
from mesh.errors import MurpheyError, translated
from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub

COMPARED_AT_ONCE = 64
IDENTIFIED_AT_ONCE = 8
CALL_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Step:
    """A source, what its content is, and how that compares; `problem` says why it cannot be sent."""

    source: Source
    identity: Identity | None = None
    compared: pb.ComparedDocument = field(default_factory=pb.ComparedDocument)
    problem: str = ""

    @property
    def metadata(self) -> Metadata:
        """All that goes with it."""
        return {**(self.identity.known if self.identity else {}), **self.source.metadata}

    @property
    def comparison(self) -> int:
        """A number of pb.Comparison; 0 where there was nothing to compare by."""
        return self.compared.comparison

    def expected(self) -> Result:
        """What would become of it."""
        if self.problem:
            return Result(self.source.path, self.source.display_name, "failed", 0, self.problem)
        replaces = self.compared.chunk_count > 0
        status: Status = "replaced" if replaces else "indexed"
        if self.comparison == pb.COMPARISON_UNCHANGED:
            status = "unchanged"
        chunks = self.compared.chunk_count if self.comparison in _KEEPS_CHUNKS else 0
        return Result(self.source.path, self.source.display_name, status, chunks, None)


_KEEPS_CHUNKS = (pb.COMPARISON_UNCHANGED, pb.COMPARISON_METADATA_CHANGED)


@dataclass(frozen=True)
class Planner:
    """Compares with one collection of a service. `settled` is for a command that goes on: what it planned, by name."""

    stub: IngestServiceStub
    collection: str
    patience: Patience
    settled: dict[str, Step] | None = None

    async def steps(self, sources: Sequence[Source]) -> AsyncGenerator[Step, None]:
        """A step for each source that is not settled, in order, a few dozen compared at a time."""
        places = asyncio.Semaphore(IDENTIFIED_AT_ONCE)
        for at in range(0, len(sources), COMPARED_AT_ONCE):
            group = sources[at : at + COMPARED_AT_ONCE]
            found = await asyncio.gather(*(_identified(source, places) for source in group))
            for step in await self._compared([step for step in found if not self._is_settled(step)]):
                if self.settled is not None:
                    self.settled[step.source.display_name] = step
                yield step

    def _is_settled(self, step: Step) -> bool:
        """Planned before, just as it is now: also a file that failed is not tried again before it changes."""
        before = self.settled.get(step.source.display_name) if self.settled else None
        if before is None:
            return False
        return (before.identity, before.problem, before.metadata) == (step.identity, step.problem, step.metadata)

    async def _compared(self, steps: Sequence[Step]) -> list[Step]:
        """Those whose content can be told from another are compared; the others are as they were."""
        comparable = [step for step in steps if step.identity and (step.identity.sha256 or step.identity.stamp)]
        if not comparable:
            return list(steps)
        files = [
            pb.ComparedFile(
                display_name=step.source.display_name,
                sha256=step.identity.sha256 if step.identity else "",
                metadata=to_struct(step.metadata),
            )
            for step in comparable
        ]
        request = pb.CompareDocumentsRequest(parent=self.collection, files=files)
        answers = iter((await self.patience(lambda: self._compare(request))).documents)
        compared = {id(step) for step in comparable}
        return [Step(step.source, step.identity, next(answers)) if id(step) in compared else step for step in steps]

    async def _compare(self, request: pb.CompareDocumentsRequest) -> pb.CompareDocumentsResponse:
        with translated("ingest service"):
            return await self.stub.CompareDocuments(request, timeout=CALL_TIMEOUT_S)


async def _identified(source: Source, places: asyncio.Semaphore) -> Step:
    if source.problem or source.content is None:
        return Step(source, problem=source.problem or "It has no content.")
    async with places:
        try:
            return Step(source, await source.content.identify())
        except MurpheyError as error:
            return Step(source, problem=error.message)
