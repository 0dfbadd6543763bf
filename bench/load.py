"""Load: answers at fixed rates up to five times what the mesh can give, and what of them comes within its deadline.

Requests arrive in an open loop (`open_loop`). A closed loop tells first about how much the mesh can give; rates are multiples
of that. By default the model is a tiny one (`tiny_llm`), so that the mesh is what saturates; `--real` takes the default model.
The curve is drawn beside the report.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc.aio

from bench import corpora, frame
from bench.frame import Reference, Report, Row, Target
from bench.local_mesh import LocalMesh, local_mesh
from bench.open_loop import Phase, Send, at_rate
from bench.options import AFRESH, Options
from bench.tiny_llm import tiny_llm
from murphey.orchestrator.v1 import orchestrator_pb2 as pb

METHOD = "/murphey.orchestrator.v1.OrchestratorService/StreamAnswer"
CORPUS = "squad2-half"
CONNECTIONS = 4
FIRST_TEXT = 3
"""The message of a streamed answer that brings its first text: `started` and `passages` come before."""


@dataclass(frozen=True)
class Workload:
    """Share of the corpus, tokens of an answer and its time, multiples of the capacity, found by `clients`, seconds at each."""

    share: float = 0.05
    tokens: int = 16
    deadline_s: float = 5.0
    multiples: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)
    seconds: float = 20.0
    warm_s: float = 5.0
    clients: int = 16


QUICK = Workload(share=0.01, tokens=4, multiples=(0.5, 5.0), seconds=2.0, warm_s=0.5, clients=4)


@dataclass(frozen=True)
class Swept:
    """Capacity as the closed loop found it, what came of each rate, and memory before and after the highest, in bytes."""

    capacity: float
    phases: Sequence[Phase]
    memory: tuple[int, int] | None
    cancel_ms: float | None = None


def run(options: Options, workload: Workload | None = None, target: str | None = None, real: bool = False,
        rates: tuple[float, ...] = ()) -> Report:  # fmt: skip
    """On a mesh of its own, or on the orchestrator or gateway at `target`, whose documents are asked about as they are."""
    workload = workload or (QUICK if options.quick else Workload())
    if target:
        swept = asyncio.run(sweep(target, workload, rates))
    else:
        with _mesh(workload, real) as mesh:
            swept = asyncio.run(sweep(mesh.services["orchestrator"], workload, rates, mesh))
    picture = frame.RESULTS / f"load-{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.png"
    draw(swept.phases, picture)
    told = vars(workload) | {"model": "real" if real else "tiny", "target": target or "", "curve": curve(swept.phases)}
    return Report("load", tuple(rows(swept)), told, options.quick, (f"the curve is drawn in {picture.name}",))


@contextmanager
def _mesh(workload: Workload, real: bool) -> Iterator[LocalMesh]:
    with contextlib.ExitStack() as stack:
        environment = {} if real else stack.enter_context(tiny_llm())
        mesh = stack.enter_context(local_mesh(**environment))
        folder = Path(stack.enter_context(TemporaryDirectory()))
        corpora.write_files(corpora.sample((CORPUS,), workload.share), folder)
        mesh.murphey("ingest", str(folder))
        yield mesh


async def sweep(target: str, workload: Workload, rates: tuple[float, ...] = (), mesh: LocalMesh | None = None) -> Swept:
    """One rate after the other, the lowest first. Without `rates`, multiples of the capacity."""
    async with sender(target, workload.tokens, questions(workload.share if mesh else 1.0)) as send:
        capacity = await _capacity(send, workload)
        phases, memory = [], (0, 0)
        for rate in rates or tuple(capacity * multiple for multiple in workload.multiples):
            before = _memory(mesh)
            phases.append(await at_rate(send, rate, workload.seconds, workload.deadline_s, workload.warm_s))
            memory = before, _memory(mesh)
    return Swept(capacity, phases, memory if mesh else None)


def questions(share: float) -> list[str]:
    """Those that the documents of a sample answer: others would be declined, and no model asked."""
    there = {document.id for document in corpora.sample((CORPUS,), share)}
    answered = {
        found.query_id for found in corpora.judgements(CORPUS) if found.score > 0 and found.document_id in there
    }
    return [query.text for query in corpora.queries(CORPUS) if query.id in answered]


@asynccontextmanager
async def sender(target: str, tokens: int, questions: Sequence[str]) -> AsyncIterator[Send]:
    """Asks over a few connections; requests are ready-made bytes, answers are not parsed. An answer that ended well had its
    finish: that is the contract."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    channels = [grpc.aio.insecure_channel(target, options=options) for _ in range(CONNECTIONS)]
    calls = [channel.unary_stream(METHOD) for channel in channels]

    async def send(number: int, left_s: float) -> float:
        request = _request(questions[number * 37 % len(questions)], tokens)
        first_s = 0.0
        messages = 0
        call: Any = calls[number % CONNECTIONS](request, timeout=left_s)
        async for _ in call:
            messages += 1
            if messages == FIRST_TEXT:
                first_s = time.perf_counter()
        return first_s or time.perf_counter()

    try:
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        yield send
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))


def _request(question: str, tokens: int) -> bytes:
    request = pb.StreamAnswerRequest(question=pb.Question(text=question, passage_limit=4, cache=AFRESH, strict=False))
    request.question.sampling.max_tokens = request.question.sampling.min_tokens = tokens
    return request.SerializeToString()


async def _capacity(send: Send, workload: Workload) -> float:
    """Answers a second that a closed loop of clients gets, after it has warmed up."""
    numbers, ended, done = itertools.count(), asyncio.Event(), [0]

    async def client() -> None:
        while not ended.is_set():
            await send(next(numbers), 120.0)
            done[0] += 1

    clients = [asyncio.create_task(client()) for _ in range(workload.clients)]
    await asyncio.sleep(workload.warm_s)
    before, began_s = done[0], time.perf_counter()
    await asyncio.sleep(workload.seconds / 2)
    capacity = max(1, done[0] - before) / (time.perf_counter() - began_s)
    ended.set()
    await asyncio.gather(*clients)
    return capacity


def _memory(mesh: LocalMesh | None) -> int:
    return sum(mesh.memory_bytes(mapped=False).values()) if mesh else 0


def rows(swept: Swept) -> Iterator[Row]:
    """The verdict on the highest rate, then each rate."""
    last, peak = swept.phases[-1], max(phase.goodput for phase in swept.phases)
    if not peak:
        raise RuntimeError(f"No answer came within {last.deadline_s:g} s at any rate: {dict(last.statuses)}.")
    times = last.rate / swept.capacity
    yield Row(
        f"goodput at {times:.2g} x capacity", "answers/s", (last.goodput,), Reference("peak", (peak,)),
        Target("ratio", at_least=0.85),
    )  # fmt: skip
    deadline = Target("value", at_most=last.deadline_s)
    yield Row("accepted there, p99", "s", (last.accepted_s(99),), target=deadline)
    if swept.memory:
        growth = 100 * (swept.memory[1] / swept.memory[0] - 1)
        yield Row("memory of all services there", "% more", (growth,), target=Target("value", at_most=5.0))
    yield Row("capacity, closed loop", "answers/s", (swept.capacity,))
    for phase in swept.phases:
        at = f"{phase.rate:.3g}/s"
        yield Row(f"{at}: goodput", "answers/s", (phase.goodput,))
        yield Row(f"{at}: accepted, p50", "s", (phase.accepted_s(50),))
        yield Row(f"{at}: accepted, p99", "s", (phase.accepted_s(99),))
        yield Row(f"{at}: refused", "%", (phase.refused_percent,))


def curve(phases: Sequence[Phase]) -> list[dict[str, Any]]:
    """Each rate as machines read it."""
    return [
        {
            "rate": phase.rate, "goodput": phase.goodput, "refused_percent": phase.refused_percent,
            "p50_s": phase.accepted_s(50), "p99_s": phase.accepted_s(99), "first_text_p50_s": phase.first_text_s(50),
            "lag_p99_s": phase.lag_s, "statuses": dict(phase.statuses),
        }
        for phase in phases
    ]  # fmt: skip


def draw(phases: Sequence[Phase], path: Path) -> None:
    """Goodput, and latency of what was accepted, over the rate that was offered."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    offered = [phase.rate for phase in phases]
    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(7, 6), layout="constrained")
    above.plot(offered, offered, color="lightgray", label="offered")
    above.plot(offered, [phase.goodput for phase in phases], marker="o", label="within the deadline")
    above.set(ylabel="answers/s", ylim=(0, 1.3 * max(phase.goodput for phase in phases) + 1))
    for percent in (50, 99):
        below.plot(offered, [phase.accepted_s(percent) for phase in phases], marker="o", label=f"accepted, p{percent}")
    below.axhline(phases[0].deadline_s, color="red", linestyle=":", label="deadline")
    below.set(xlabel="requests/s, open loop", ylabel="seconds")
    for axes in (above, below):
        axes.legend()
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
