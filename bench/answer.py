"""Answers: what the orchestrator and the hops add to the first token, and what 16 streams get of the engine's own speed.

First token: the client's time until the first delta, less the retriever's own time for the same search (embedding and store)
and less the generator's own (queue and prefill). All hops, prompt packing, token counting and the client are in what remains.

Throughput: 16 questions at once, the mesh's tokens a second beside the engine's own, stepped directly in a process of its
own with the same prompts (recorded from an orchestrator) in the same order, so that prefixes repeat alike.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import ceilings, corpora, recorder
from bench.frame import Reference, Report, Row, Target
from bench.latency import percentile
from bench.local_mesh import LocalMesh, local_mesh
from bench.options import AFRESH, Options
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from murphey.retriever.v1 import retriever_pb2
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

CORPUS = "squad2-half"
PASSAGE_LIMIT = 8
TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Workload:
    """Share of the corpus that is ingested, questions asked one after the other, and streams at once."""

    share: float
    questions: int
    streams: int
    tokens: int


FULL = Workload(share=1.0, questions=30, streams=16, tokens=64)
QUICK = Workload(share=0.05, questions=3, streams=4, tokens=8)


@dataclass(frozen=True)
class First:
    """The first token of one answer, in milliseconds."""

    client: float
    search: float
    engine: float

    @property
    def added(self) -> float:
        """What neither the retriever nor the generator took."""
        return self.client - self.search - self.engine


@dataclass(frozen=True)
class Streamed:
    """What a client saw of one answer."""

    first_s: float
    finish: Any


def run(options: Options) -> Report:
    """One mesh, other questions in each run."""
    workload = QUICK if options.quick else FULL
    with local_mesh() as mesh:
        with TemporaryDirectory() as folder:
            corpora.write_files(corpora.sample((CORPUS,), workload.share), Path(folder))
            mesh.murphey("ingest", folder)
        rows = asyncio.run(measure(mesh, workload, options.runs))
    return Report("answer", rows, vars(workload), options.quick)


async def measure(mesh: LocalMesh, workload: Workload, runs: int) -> tuple[Row, ...]:
    """The rows, on a mesh that holds the corpus."""
    a_run = workload.questions + workload.streams
    requests = (_request(query.text, workload.tokens) for query in _shuffled_queries())
    asked = await recorder.prompts_of(mesh, requests, 1 + runs * a_run)
    groups = [asked[:1]]
    for start in range(1, len(asked), a_run):
        groups += [asked[start : start + workload.questions], asked[start + workload.questions : start + a_run]]
    firsts, rates = [], []
    await _first(mesh, asked[0][0])
    for single, together in zip(groups[1::2], groups[2::2], strict=True):
        firsts.append([await _first(mesh, request) for request, _ in single])
        rates.append(await _tokens_per_s(mesh, [request for request, _ in together]))
    engine = await asyncio.to_thread(_engine_tokens_per_s, [[prompt for _, prompt in group] for group in groups])
    return (*_first_rows(firsts), _throughput_row(workload.streams, rates, engine[2::2]))


def _shuffled_queries() -> list[corpora.Query]:
    """Neighbouring questions are about one paragraph; every 37th is about others."""
    queries = corpora.queries(CORPUS)
    return [query for start in range(37) for query in queries[start::37]]


def _request(question: str, tokens: int) -> pb.StreamAnswerRequest:
    request = pb.StreamAnswerRequest(
        question=pb.Question(text=question, passage_limit=PASSAGE_LIMIT, cache=AFRESH, strict=False)
    )
    request.question.sampling.max_tokens = tokens
    request.question.sampling.min_tokens = tokens
    return request


async def _first(mesh: LocalMesh, request: pb.StreamAnswerRequest) -> First:
    async with mesh.channel("orchestrator") as answers, mesh.channel("retriever") as searches:
        search = retriever_pb2.SearchRequest(text=request.question.text, limit=PASSAGE_LIMIT, cache=AFRESH)
        found = await RetrieverServiceStub(searches).Search(search, timeout=TIMEOUT_S)
        await answers.channel_ready()
        streamed = await _stream(OrchestratorServiceStub(answers), request)
    retriever_ms = (found.embed_time.ToMicroseconds() + found.store_time.ToMicroseconds()) / 1000
    engine = streamed.finish.timings.generate
    engine_ms = (engine.queue.ToMicroseconds() + engine.prefill.ToMicroseconds()) / 1000
    return First(streamed.first_s * 1000, retriever_ms, engine_ms)


async def _tokens_per_s(mesh: LocalMesh, requests: list[pb.StreamAnswerRequest]) -> float:
    async with mesh.channel("orchestrator") as channel:
        stub = OrchestratorServiceStub(channel)
        await channel.channel_ready()
        started_s = time.perf_counter()
        answers = await asyncio.gather(*(_stream(stub, request) for request in requests))
        seconds = time.perf_counter() - started_s
    return sum(answer.finish.usage.completion_tokens for answer in answers) / seconds


async def _stream(stub: OrchestratorServiceStub, request: pb.StreamAnswerRequest) -> Streamed:
    started_s, first_s = time.perf_counter(), 0.0
    call = stub.StreamAnswer(request, timeout=TIMEOUT_S)
    try:
        async for event in call:
            if event.HasField("delta") and not first_s:
                first_s = time.perf_counter() - started_s
            if event.HasField("finish"):
                return Streamed(first_s, event.finish)
    finally:
        call.cancel()
    raise RuntimeError("An answer ended without its finish.")


def _engine_tokens_per_s(groups: list[list[Any]]) -> list[float]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "groups.json"
        path.write_text(json.dumps([[prompt.SerializeToString().hex() for prompt in group] for group in groups]))
        return ceilings.run("engine", groups=path)["tokens_per_s"]


def _first_rows(runs: list[list[First]]) -> list[Row]:
    def p50(name: str) -> tuple[float, ...]:
        return tuple(percentile([getattr(first, name) for first in run], 50) for run in runs)

    target = Target("value", at_most=8.0)
    return [
        Row("first token, added by orchestrator and hops, p50", "ms", p50("added"), target=target),
        Row("first token as the client sees it, p50", "ms", p50("client")),
        Row("first token, retriever's own part, p50", "ms", p50("search")),
        Row("first token, generator's own part, p50", "ms", p50("engine")),
    ]


def _throughput_row(streams: int, rates: list[float], engine: list[float]) -> Row:
    reference = Reference("engine alone, same prompts", tuple(engine))
    target = Target("ratio", at_least=0.95)
    return Row(f"{streams} streams through the mesh", "tokens/s", tuple(rates), reference, target)
