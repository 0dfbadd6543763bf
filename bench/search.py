"""Search over 100,000 chunks through gRPC, beside what embedding and store alone take, and one client beside many.

The ceiling of a search's p50 is the retriever's own time to embed and to look into the store, reported with each answer:
what remains is gRPC, conversion and waiting. The embedder alone, in a process of its own, stands beside it to check.
"""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc.aio

from bench import ceilings, corpora, synthetic
from bench.frame import Reference, Report, Row, Target
from bench.latency import calls_per_s, percentile, timed
from bench.local_mesh import LocalMesh, local_mesh
from bench.options import AFRESH, Options
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

COLLECTION = "bench-search"
SEARCH = "/murphey.retriever.v1.RetrieverService/Search"
RERANKED_SEARCHES = 30
"""In one run: each reads 30 passages."""
MODES = {"hybrid": pb.SEARCH_MODE_HYBRID, "dense": pb.SEARCH_MODE_DENSE, "sparse": pb.SEARCH_MODE_SPARSE}

WISHES: dict[str, dict[str, Any]] = {
    "search with default options": {},
    "hybrid search with diversity": {"diversity": 0.3},
    "hybrid search, reranked": {"reranking": pb.Reranking()},
}


@dataclass(frozen=True)
class Workload:
    """How much is stored and asked."""

    chunks: int
    base_vectors: int
    searches: int
    clients: int
    load_s: float


FULL = Workload(chunks=100_000, base_vectors=2_000, searches=400, clients=32, load_s=10)
QUICK = Workload(chunks=1_500, base_vectors=64, searches=30, clients=8, load_s=1)


@dataclass(frozen=True)
class Latencies:
    """One run of single searches, in milliseconds: as the client sees them, and the retriever's own two parts."""

    client: list[float]
    embed: list[float]
    store: list[float]

    @property
    def ceiling(self) -> float:
        """Embed p50 + store p50."""
        return percentile(self.embed, 50) + percentile(self.store, 50)


def run(options: Options) -> Report:
    """Starts a mesh, fills it and measures."""
    workload = QUICK if options.quick else FULL
    with local_mesh() as mesh:
        rows = asyncio.run(measure(mesh, workload, options.runs))
    return Report("search", rows, vars(workload), options.quick)


async def measure(mesh: LocalMesh, workload: Workload, runs: int) -> tuple[Row, ...]:
    """The rows, on a running mesh."""
    questions = [query.text for query in corpora.queries("squad2-half")]
    async with mesh.channel("retriever") as channel:
        stub = RetrieverServiceStub(channel)
        await mesh.create_collection(COLLECTION)
        base = await synthetic.base_vectors(stub, workload.base_vectors)
        rate = await synthetic.fill(stub, COLLECTION, workload.chunks, base)
        await asyncio.to_thread(mesh.settle, "retriever")
        await _searches(stub, questions[:20], pb.SEARCH_MODE_HYBRID)
        rows = [Row("upsert with vectors, one writer", "chunks/s", (rate,))]
        for name, mode in MODES.items():
            measured = [await _searches(stub, _part(questions, run, workload.searches), mode) for run in range(runs)]
            rows += _latency_rows(name, measured)
        rows += [await _wished_row(stub, questions, workload, runs, *wished) for wished in WISHES.items()]
        alone = [_embed_alone(_part(questions, run, workload.searches)) for run in range(runs)]
        rows.append(Row("embedder alone, one query, p50", "ms", tuple(alone)))
        return (*rows, await _load_row(mesh, questions, workload, runs))


def _latency_rows(mode: str, runs: list[Latencies]) -> list[Row]:
    ceiling = Reference("retriever's embed p50 + store p50", tuple(run.ceiling for run in runs))
    p50 = tuple(percentile(run.client, 50) for run in runs)
    target = Target("difference", at_most=2.0)
    return [
        Row(f"{mode} search, p50", "ms", p50, ceiling, target),
        Row(f"{mode} search, p99", "ms", tuple(percentile(run.client, 99) for run in runs)),
        Row(f"{mode} search, embed p50", "ms", tuple(percentile(run.embed, 50) for run in runs)),
        Row(f"{mode} search, store p50", "ms", tuple(percentile(run.store, 50) for run in runs)),
    ]


async def _wished_row(
    stub: RetrieverServiceStub, questions: list[str], workload: Workload, runs: int, name: str, wishes: dict[str, Any]
) -> Row:
    """A search with options beside a plain hybrid one, other questions each, in turn."""
    wished, plain = [], []
    for run in range(runs):
        part = _part(questions, run, workload.searches)[:RERANKED_SEARCHES]
        plain += [percentile((await _searches(stub, part, pb.SEARCH_MODE_HYBRID)).client, 50)]
        wished += [percentile((await _searches(stub, part, **wishes)).client, 50)]
    target = Target("ratio", at_most=2.0) if not wishes else None
    return Row(f"{name}, p50", "ms", tuple(wished), Reference("plain hybrid", tuple(plain)), target)


async def _searches(
    stub: RetrieverServiceStub, questions: list[str], mode: Any = pb.SEARCH_MODE_UNSPECIFIED, **wishes: Any
) -> Latencies:
    client, embed, store = [], [], []
    for question in questions:
        call = stub.Search(_request(question, mode, **wishes), timeout=30)
        client.append(await timed(call))
        answer = await call
        embed.append(answer.embed_time.ToMicroseconds() / 1000)
        store.append(answer.store_time.ToMicroseconds() / 1000)
    return Latencies(client, embed, store)


async def _load_row(mesh: LocalMesh, questions: list[str], workload: Workload, runs: int) -> Row:
    one, many = [], []
    for _ in range(runs):
        one.append(await _queries_per_s(mesh, questions, 1, workload.load_s))
        many.append(await _queries_per_s(mesh, questions, workload.clients, workload.load_s))
    target = Target("ratio", at_least=3.0)
    name = f"hybrid search, {workload.clients} clients"
    return Row(name, "queries/s", tuple(many), Reference("one client", tuple(one)), target)


async def _queries_per_s(mesh: LocalMesh, questions: list[str], clients: int, seconds: float) -> float:
    """Each client has a connection of its own. Requests are ready made and answers stay bytes: clients share these cores
    with the mesh, and their work is not what is measured.
    """
    requests = [_request(question, pb.SEARCH_MODE_HYBRID).SerializeToString() for question in questions]
    async with AsyncExitStack() as stack:
        calls = []
        for _ in range(clients):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = grpc.aio.insecure_channel(mesh.services["retriever"], options=options)
            search = (await stack.enter_async_context(channel)).unary_unary(SEARCH)
            calls.append(lambda number, search=search: search(requests[number % len(requests)], timeout=30))
        await asyncio.gather(*(call(number) for number, call in enumerate(calls)))
        return await calls_per_s(calls, seconds)


def _request(question: str, mode: Any, **wishes: Any) -> pb.SearchRequest:
    collection = f"collections/{COLLECTION}"
    return pb.SearchRequest(collection=collection, text=question, mode=mode, limit=10, cache=AFRESH, **wishes)


def _embed_alone(questions: list[str]) -> float:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "queries.json"
        path.write_text(json.dumps(questions))
        return percentile(ceilings.run("embedder", queries=path)["query_ms"], 50)


def _part(questions: list[str], run: int, count: int) -> list[str]:
    """Other questions in each run, so that nothing is answered from a cache."""
    start = 100 + run * count
    return questions[start : start + count]
