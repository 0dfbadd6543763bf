"""A rolling restart of every service that there are two of, under a steady load of answers: none of them may fail.

Clients know both gateways as one target. They send nothing again: what keeps a request from failing is that a service which
stops says so first, ends what it has begun, and that calls which it did not take go to the other one.
"""

import asyncio
import itertools
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import grpc.aio

from bench import corpora
from bench.frame import Report, Row, Target
from bench.latency import percentile
from bench.load import CORPUS, questions
from bench.local_mesh import MURPHEY
from bench.options import AFRESH, Options
from bench.replicas import REPLICATED, Replicas, replicas
from bench.tiny_llm import tiny_llm
from mesh.channel import open_channel
from murphey.ingest.v1 import ingest_pb2
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub

RATE = 20.0
SERVICE = "murphey.orchestrator.v1.OrchestratorService"
BEHIND = {"generator": "StreamGenerate", "ingest": "ListDocuments", "orchestrator": "Answer"}
"""A method by which each service is seen to take part."""
SETTLE_S = 3.0
SHARE = 0.01
"""Of the corpus."""


@dataclass
class Outcome:
    """What clients saw, and how many calls each replica took in each of its lives, by service."""

    latencies_s: list[float]
    failures: Counter[str]
    taken: dict[str, list[float]]
    seconds: float


def run(options: Options, rate: float = RATE) -> Report:
    """One restart of each; a quick one at a low rate."""
    rate = min(rate, 4.0) if options.quick else rate
    with ExitStack() as stack:
        environment = stack.enter_context(tiny_llm())
        data = Path(stack.enter_context(TemporaryDirectory(prefix="murphey-rolling-")))
        outcome = asyncio.run(measure(data, {}, environment, rate))
    failed = sum(outcome.failures.values())
    least = min(min(calls) for calls in outcome.taken.values())
    rows = (
        Row("requests failed", "requests", (failed,), target=Target("value", at_most=0)),
        Row("calls that the least asked replica took", "calls", (least,), target=Target("value", at_least=1)),
        Row("answers", "answers", (len(outcome.latencies_s),)),
        Row("answer, p99", "s", (percentile(outcome.latencies_s, 99),)),
        Row("all restarts", "s", (outcome.seconds,)),
    )
    workload = {"rate": rate, "restarted": REPLICATED, "failures": dict(outcome.failures), "taken": outcome.taken}
    return Report("rolling", rows, workload, options.quick)


async def measure(data: Path, databases: dict[str, str], environment: dict[str, str], rate: float) -> Outcome:
    """Two of each service; each restarted in turn while answers are asked for."""
    async with replicas(data, databases, environment) as running:
        await asyncio.to_thread(_ingest, running)
        return await restarted(running, rate)


async def restarted(running: Replicas, rate: float) -> Outcome:
    """On replicas that hold documents."""
    outcome = Outcome([], Counter(), {service: [] for service in BEHIND}, 0.0)
    ended = asyncio.Event()
    gateways, documents = running.target("gateway"), "murphey.ingest.v1.IngestService"
    async with open_channel(gateways, SERVICE, []) as channel, open_channel(gateways, documents, []) as lists:
        stub = OrchestratorServiceStub(channel)
        asking = asyncio.create_task(_ask(stub, IngestServiceStub(lists), rate, ended, outcome))
        await asyncio.sleep(SETTLE_S)
        began_s = time.perf_counter()
        for service in REPLICATED:
            for replica in running.of[service]:
                if service in BEHIND:
                    label = f'method="{BEHIND[service]}"'
                    outcome.taken[service].append(await replica.counted("murphey_grpc_calls_total", label))
                await replica.restart()
                await asyncio.sleep(SETTLE_S)
        outcome.seconds = time.perf_counter() - began_s
        ended.set()
        await asking
    return outcome


async def _ask(
    stub: OrchestratorServiceStub, documents: IngestServiceStub, rate: float, ended: asyncio.Event, outcome: Outcome
) -> None:
    """In an open loop, until `ended`."""
    asked = itertools.cycle(questions(SHARE))
    next_s = time.perf_counter()
    async with asyncio.TaskGroup() as calls:
        while not ended.is_set():
            calls.create_task(_one(stub, next(asked), next_s, outcome))
            calls.create_task(_list(documents, outcome))
            next_s += 1 / rate
            await asyncio.sleep(max(0.0, next_s - time.perf_counter()))


async def _list(stub: IngestServiceStub, outcome: Outcome) -> None:
    try:
        await stub.ListDocuments(ingest_pb2.ListDocumentsRequest(page_size=1), timeout=60)
    except grpc.aio.AioRpcError as error:
        outcome.failures[f"{error.code().name}: {(error.details() or '')[:200]}"] += 1


async def _one(stub: OrchestratorServiceStub, question: str, scheduled_s: float, outcome: Outcome) -> None:
    request = pb.AnswerRequest(question=pb.Question(text=question, passage_limit=4, cache=AFRESH, strict=False))
    request.question.sampling.max_tokens = request.question.sampling.min_tokens = 4
    try:
        await stub.Answer(request, timeout=60)
    except grpc.aio.AioRpcError as error:
        outcome.failures[f"{error.code().name}: {(error.details() or '')[:200]}"] += 1
    else:
        outcome.latencies_s.append(time.perf_counter() - scheduled_s)


def _ingest(running: Replicas) -> None:
    with TemporaryDirectory() as folder:
        corpora.write_files(corpora.sample((CORPUS,), SHARE), Path(folder))
        target = running.of["gateway"][0].address
        command = [*MURPHEY, "ingest", folder, "--target", target, "--json"]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
