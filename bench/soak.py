"""Soak: answers, searches, uploads that replace one another, deletions and lists for a long time. Memory and open files must
not grow, and nothing may fail.

Memory is what the processes of the mesh hold without pages of mapped files; its slope is fitted over the second half of the
run, when caches are full. Refusals because of too much load count as errors too: the load is light.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median
from tempfile import TemporaryDirectory

import grpc.aio
import psutil

from bench import corpora
from bench.frame import Report, Row, Target
from bench.load import CORPUS
from bench.local_mesh import LocalMesh, local_mesh
from bench.options import Options
from bench.tiny_llm import tiny_llm
from murphey.ingest.v1 import ingest_pb2
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from murphey.orchestrator.v1 import orchestrator_pb2
from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from murphey.retriever.v1 import retriever_pb2
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

MINUTES, QUICK_MINUTES = 30.0, 0.3
RATES = {"answer": 2.0, "search": 5.0, "upload": 0.5, "delete": 0.1, "list": 1.0}
"""Calls a second of each kind."""
DOCUMENTS = 60
"""That are uploaded in turn, each in a new version every time round."""
TIMEOUT_S = 60.0
SAMPLE_EVERY_S = 5.0

Call = Callable[[int], Awaitable[object]]


@dataclass
class Course:
    """What was seen: (seconds, bytes, open files) every few seconds, calls and errors by kind."""

    samples: list[tuple[float, int, int]] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def slope_percent(self) -> float:
        """Growth of memory over ten minutes, in percent, fitted over the second half."""
        half = self.samples[len(self.samples) // 2 :]
        slope = linear_regression([at for at, _, _ in half], [size for _, size, _ in half]).slope
        return 100 * slope * 600 / median(size for _, size, _ in half)

    @property
    def files_more(self) -> float:
        """Open files in the last fifth beyond those in the first fifth of the second half."""
        half = [files for _, _, files in self.samples[len(self.samples) // 2 :]]
        fifth = max(1, len(half) // 5)
        return median(half[-fifth:]) - median(half[:fifth])


def run(options: Options, minutes: float = MINUTES, real: bool = False) -> Report:
    """So long; a quick one a few seconds."""
    minutes = QUICK_MINUTES if options.quick else minutes
    with ExitStack() as stack:
        environment = {} if real else stack.enter_context(tiny_llm())
        mesh = stack.enter_context(local_mesh(**environment))
        folder = Path(stack.enter_context(TemporaryDirectory()))
        corpora.write_files(corpora.sample((CORPUS,), 0.02), folder)
        mesh.murphey("ingest", str(folder))
        course = asyncio.run(soaked(mesh, minutes * 60))
    rows = (
        Row("memory", "%/10 min", (course.slope_percent,), target=Target("value", at_most=1.0)),
        Row("open files", "more", (course.files_more,), target=Target("value", at_most=0)),
        Row("errors", "calls", (course.errors.total(),), target=Target("value", at_most=0)),
        Row("calls", "calls", (course.calls.total(),)),
        Row("memory at the end", "MB", (course.samples[-1][1] / 1e6,)),
    )
    workload = {
        "minutes": minutes, "rates": RATES, "calls": dict(course.calls), "errors": dict(course.errors),
        "samples": course.samples,
    }  # fmt: skip
    return Report("soak", rows, workload, options.quick)


async def soaked(mesh: LocalMesh, seconds: float) -> Course:
    """All kinds of calls at their rates, for so long."""
    course = Course()
    async with mesh.channel("orchestrator") as one, mesh.channel("retriever") as two, mesh.channel("ingest") as three:
        calls = _calls(OrchestratorServiceStub(one), RetrieverServiceStub(two), IngestServiceStub(three))
        began_s = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for kind, call in calls.items():
                tasks.create_task(_at_rate(kind, call, seconds, course))
            tasks.create_task(_sampled(mesh, began_s, seconds, course))
    return course


async def _at_rate(kind: str, call: Call, seconds: float, course: Course) -> None:
    """Open loop: a slow call holds none back."""
    begin_s, numbers = time.perf_counter(), itertools.count()
    async with asyncio.TaskGroup() as tasks:
        for number in numbers:
            due_s = number / RATES[kind]
            if due_s >= seconds:
                return
            await asyncio.sleep(max(0.0, begin_s + due_s - time.perf_counter()))
            tasks.create_task(_one(kind, call, number, course))


async def _one(kind: str, call: Call, number: int, course: Course) -> None:
    course.calls[kind] += 1
    try:
        await call(number)
    except grpc.aio.AioRpcError as error:
        course.errors[f"{kind} {error.code().name}: {(error.details() or '')[:150]}"] += 1


async def _sampled(mesh: LocalMesh, began_s: float, seconds: float, course: Course) -> None:
    while (now_s := time.perf_counter() - began_s) < seconds:
        size, files = await asyncio.to_thread(_looked, mesh)
        course.samples.append((round(now_s, 1), size, files))
        await asyncio.sleep(min(SAMPLE_EVERY_S, seconds / 20))


def _looked(mesh: LocalMesh) -> tuple[int, int]:
    processes = psutil.Process(mesh.process.pid).children(recursive=True)
    return sum(mesh.memory_bytes(mapped=False).values()), sum(_files(process) for process in processes)


def _files(process: psutil.Process) -> int:
    try:
        return process.num_fds()
    except psutil.NoSuchProcess:
        return 0


def _calls(
    orchestrator: OrchestratorServiceStub, retriever: RetrieverServiceStub, ingest: IngestServiceStub
) -> dict[str, Call]:
    questions = [query.text for query in corpora.queries(CORPUS)]
    texts = [document.content for document in corpora.sample((CORPUS,), 0.2)]

    def question(number: int) -> str:
        return questions[number * 37 % len(questions)]

    async def answer(number: int) -> None:
        request = orchestrator_pb2.StreamAnswerRequest(question=orchestrator_pb2.Question(text=question(number)))
        request.question.sampling.max_tokens = 16
        async for _ in orchestrator.StreamAnswer(request, timeout=TIMEOUT_S):
            if number % 10 == 9:
                return  # somebody who left

    async def upload(number: int) -> None:
        name, text = f"soak-{number % DOCUMENTS}.txt", f"Version {number}.\n\n{texts[number % len(texts)]}"
        await ingest.UploadDocument(_pieces(name, text.encode()), timeout=TIMEOUT_S)

    async def delete(number: int) -> None:
        wanted = ingest_pb2.ListDocumentsRequest(display_name=f"soak-{number % DOCUMENTS}.txt")
        for document in (await ingest.ListDocuments(wanted, timeout=TIMEOUT_S)).documents:
            await ingest.DeleteDocument(ingest_pb2.DeleteDocumentRequest(name=document.name), timeout=TIMEOUT_S)

    return {
        "answer": answer,
        "search": lambda number: retriever.Search(
            retriever_pb2.SearchRequest(text=question(number), limit=10), timeout=TIMEOUT_S
        ),
        "upload": upload,
        "delete": delete,
        "list": lambda number: ingest.ListDocuments(ingest_pb2.ListDocumentsRequest(page_size=20), timeout=TIMEOUT_S),
    }


async def _pieces(name: str, data: bytes) -> AsyncIterator[ingest_pb2.UploadDocumentRequest]:
    yield ingest_pb2.UploadDocumentRequest(header=ingest_pb2.UploadHeader(display_name=name, size_bytes=len(data)))
    yield ingest_pb2.UploadDocumentRequest(data=data)
