"""Faults: every dependency of a mesh x every fault, under load: what clients saw, how long until all was normal, what was lost.

Services run as processes with a proxy before each that another one calls (`fault_proxy`); faults of a whole service are
`kill -9` with a start after a while, and a disk that takes no more (a limit on the size of files, which the kernel enforces on
the running process). Meanwhile questions are asked and documents uploaded; in the end every document that was accepted must be
live.
"""

import asyncio
import contextlib
import itertools
import os
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import grpc.aio
import psutil

from bench import corpora
from bench.fault_proxy import Fault, FaultProxy, Place, fault_proxy
from bench.frame import Report, Row, Target
from bench.load import CORPUS
from bench.options import AFRESH, Options
from bench.tiny_llm import tiny_llm
from bench.victims import Victim
from mesh import threads
from mesh.channel import open_channel
from mesh.discovery import ServiceName, full_name
from murphey.ingest.v1 import ingest_pb2
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub

LINKS = (
    ("orchestrator", "retriever"), ("orchestrator", "generator"), ("orchestrator", "ingest"), ("ingest", "retriever"),
)  # fmt: skip
WIRES = tuple(fault for fault in Fault if fault is not Fault.NONE)
QUESTIONS_PER_S, UPLOADS_PER_S = 2.0, 0.5
DEADLINE_S, FAULT_S, NORMAL_WITHIN_S = 10.0, 8.0, 90.0
QUICK_FAULT_S = 1.0
IN_A_ROW = 3
FULL_DISK_BYTES = 4096
EXPECTED = {"OK", "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}


@dataclass
class Mesh:
    """The processes, the proxies before them by (caller, service), and documents whose upload was acknowledged."""

    services: dict[str, Victim]
    proxies: dict[tuple[str, str], FaultProxy]
    accepted: set[str] = field(default_factory=set)
    uploads: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Cell:
    """One fault: statuses of questions during it, the slowest, and seconds from its end until all was normal."""

    where: str
    fault: str
    seen: Counter[str]
    slowest_s: float
    normal_s: float

    def text(self) -> str:
        """`ingest > retriever, partition: 12 OK, slowest 1.2 s; normal again after`."""
        seen = ", ".join(f"{count} {status}" for status, count in self.seen.most_common())
        return f"{self.where}, {self.fault}: {seen}, slowest {self.slowest_s:.1f} s; normal again after"


def run(options: Options) -> Report:
    """The whole matrix; a quick run takes two of its cells."""
    with ExitStack() as stack:
        environment = dict(os.environ) | stack.enter_context(tiny_llm())
        threads.limit(environment)
        data = Path(stack.enter_context(TemporaryDirectory(prefix="murphey-faults-")))
        cells, lost, uploads = asyncio.run(measure(data, environment, options.quick))
    nothing = Target("value", at_most=0)
    odd = sum(count for cell in cells for status, count in cell.seen.items() if status not in EXPECTED)
    rows = [
        Row("documents lost", "documents", (lost,), target=nothing),
        Row("other statuses than expected", "answers", (odd,), target=nothing),
    ]
    within = Target("value", at_most=30.0)
    rows += [Row(cell.text(), "s", (cell.normal_s,), target=within) for cell in cells]
    matrix = [vars(cell) | {"seen": dict(cell.seen)} for cell in cells]
    return Report("faults", tuple(rows), {"matrix": matrix, "uploads": dict(uploads)}, options.quick)


async def measure(data: Path, environment: dict[str, str], quick: bool = False) -> tuple[list[Cell], int, Counter[str]]:
    """One cell after the other; the documents that were lost, and how uploads ended."""
    async with _mesh(data, environment) as mesh, _stub(mesh, "orchestrator") as channel:
        answers, ended = OrchestratorServiceStub(channel), asyncio.Event()
        uploading = asyncio.create_task(_upload(mesh, ended))
        await _until_normal(answers)
        cells: list[Cell] = []
        faults = _faults(mesh)
        for where, fault, apply in (faults[0], faults[-1]) if quick else faults:
            cells.append(await _cell(answers, where, fault, apply, QUICK_FAULT_S if quick else FAULT_S))
        ended.set()
        await uploading
        return cells, await _lost(mesh), mesh.uploads


Apply = Callable[[bool], Awaitable[None]]
"""Begins a fault (True) or ends it."""


def _faults(mesh: Mesh) -> list[tuple[str, str, Apply]]:
    def wire(proxy: FaultProxy, fault: Fault) -> Apply:
        async def apply(begin: bool) -> None:
            proxy.fault = fault if begin else Fault.NONE

        return apply

    def killed(victim: Victim) -> Apply:
        return lambda begin: victim.kill() if begin else victim.start()

    def full(victim: Victim) -> Apply:
        async def apply(begin: bool) -> None:
            assert victim.process is not None
            _limit_files(victim.process.pid, FULL_DISK_BYTES if begin else resource.RLIM_INFINITY)

        return apply

    found = [
        (f"{caller} > {service}", fault.value, wire(mesh.proxies[caller, service], fault))
        for caller, service in LINKS
        for fault in WIRES
    ]
    found += [(name, "kill -9", killed(victim)) for name, victim in mesh.services.items()]
    found += [(name, "full disk", full(mesh.services[name])) for name in ("retriever", "ingest", "orchestrator")]
    return found


def _limit_files(pid: int, size: int) -> None:
    """For a process and those that it has started: writes beyond it fail as those to a full disk do."""
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))


async def _cell(answers: OrchestratorServiceStub, where: str, fault: str, apply: Apply, seconds: float) -> Cell:
    seen, slowest = Counter[str](), [0.0]
    await apply(True)
    async with asyncio.TaskGroup() as asking:
        end_s = time.perf_counter() + seconds
        while time.perf_counter() < end_s:
            asking.create_task(_note(answers, seen, slowest))
            await asyncio.sleep(1 / QUESTIONS_PER_S)
        await apply(False)
        healed_s = time.perf_counter()
        normal_s = await _until_normal(answers) - healed_s
    return Cell(where, fault, seen, slowest[0], normal_s)


async def _note(answers: OrchestratorServiceStub, seen: Counter[str], slowest: list[float]) -> None:
    began_s = time.perf_counter()
    seen[await _ask(answers)] += 1
    slowest[0] = max(slowest[0], time.perf_counter() - began_s)


async def _until_normal(answers: OrchestratorServiceStub) -> float:
    """The moment from which several answers in a row came. TimeoutError when they never do."""
    async with asyncio.timeout(NORMAL_WITHIN_S):
        row, since_s = 0, time.perf_counter()
        while row < IN_A_ROW:
            asked_s = time.perf_counter()
            if await _ask(answers) == "OK":
                since_s, row = (asked_s, 1) if row == 0 else (since_s, row + 1)
            else:
                row = 0
                await asyncio.sleep(0.1)
        return since_s


_questions = itertools.cycle(f"What is told of number {number}?" for number in range(1000))


async def _ask(answers: OrchestratorServiceStub) -> str:
    """How it ended."""
    request = pb.AnswerRequest(question=pb.Question(text=next(_questions), passage_limit=4, cache=AFRESH, strict=False))
    request.question.sampling.max_tokens = request.question.sampling.min_tokens = 8
    try:
        await answers.Answer(request, timeout=DEADLINE_S)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def _upload(mesh: Mesh, ended: asyncio.Event) -> None:
    """Documents one after the other; what is not accepted is not sent again."""
    texts = itertools.cycle(document.content for document in corpora.sample((CORPUS,), 0.02))
    async with _stub(mesh, "ingest") as channel:
        stub = IngestServiceStub(channel)
        for number in itertools.count():
            if ended.is_set():
                return
            name = f"{number}.txt"
            try:
                await stub.UploadDocument(_pieces(name, f"{name}\n\n{next(texts)}".encode()), timeout=DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                mesh.uploads[error.code().name] += 1
            else:
                mesh.uploads["OK"] += 1
                mesh.accepted.add(name)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), 1 / UPLOADS_PER_S)


async def _lost(mesh: Mesh) -> int:
    """Accepted documents that are not live once nothing is pending any more."""
    pending = ingest_pb2.ListDocumentsRequest(state=ingest_pb2.DOCUMENT_STATE_PENDING, page_size=1)
    async with _stub(mesh, "ingest") as channel, asyncio.timeout(300):
        stub = IngestServiceStub(channel)
        while (await stub.ListDocuments(pending, timeout=30)).documents:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.5)
        live: set[str] = set()
        request = ingest_pb2.ListDocumentsRequest(state=ingest_pb2.DOCUMENT_STATE_LIVE, page_size=1000)
        while True:
            page = await stub.ListDocuments(request, timeout=30)
            live |= {document.display_name for document in page.documents}
            if not page.next_page_token:
                return len(mesh.accepted - live)
            request.page_token = page.next_page_token


async def _pieces(name: str, data: bytes) -> AsyncIterator[ingest_pb2.UploadDocumentRequest]:
    yield ingest_pb2.UploadDocumentRequest(header=ingest_pb2.UploadHeader(display_name=name, size_bytes=len(data)))
    yield ingest_pb2.UploadDocumentRequest(data=data)


@asynccontextmanager
async def _stub(mesh: Mesh, service: ServiceName) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(mesh.services[service].target, full_name(service), []) as channel:
        yield channel


@asynccontextmanager
async def _mesh(data: Path, environment: dict[str, str]) -> AsyncIterator[Mesh]:
    """Every service, each calling the others through a proxy of that link."""
    async with AsyncExitStack() as stack:
        mesh = Mesh({}, {})
        for name in ("retriever", "generator", "ingest", "orchestrator"):
            flags = [f"--data={data}"]
            for caller, service in LINKS:
                if caller == name:
                    proxy = await stack.enter_async_context(fault_proxy(Place.of(mesh.services[service].target)))
                    mesh.proxies[caller, service] = proxy
                    flags.append(f"--{service}={proxy.target}")
            victim = Victim(name, flags, data / f"{name}.log", environment)
            mesh.services[name] = victim
            stack.push_async_callback(victim.kill)
            await victim.start()
        yield mesh
