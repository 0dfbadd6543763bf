"""Answers that are given again: how long one takes through the mesh, and what 100,000 of them take in memory.

The answers are real ones, from the default model. For the memory each is kept many times under another key, packed anew each
time as the orchestrator packs it; nothing is shared between two that are kept, so that as many different answers of this size
take as much.
"""

import asyncio
import gc
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from bench import corpora
from bench.frame import Report, Row, Target
from bench.latency import percentile
from bench.local_mesh import LocalMesh, local_mesh
from bench.options import Options
from mesh.caching import MEGABYTE, ByteCache, digest
from murphey.retriever.v1.cache_pb2 import CacheControl
from orchestrator.cached_answers import KeptAnswer, packed
from orchestrator.evaluation.clients.answers import Asker, Heard
from orchestrator.events import (
    Delta,
    EngineTimings,
    Finish,
    GroundedSentence,
    Outcome,
    StopReason,
    Timings,
    Usage,
    Versions,
)

CORPUS = "squad2-half"
MAX_CACHE_MB = 100_000
"""More than is ever kept here: what is measured is the entries, not the bound."""


@dataclass(frozen=True)
class Workload:
    """Share of the corpus that is ingested, questions, times that each is asked again, and answers that are kept."""

    share: float
    questions: int
    repeats: int
    entries: int


FULL = Workload(share=0.3, questions=24, repeats=10, entries=100_000)
QUICK = Workload(share=0.05, questions=2, repeats=2, entries=200)


def run(options: Options) -> Report:
    """One mesh; the memory is measured in this process."""
    workload = QUICK if options.quick else FULL
    with local_mesh() as mesh:
        with TemporaryDirectory() as folder:
            corpora.write_files(corpora.sample((CORPUS,), workload.share), Path(folder))
            mesh.murphey("ingest", folder)
        rows = asyncio.run(measure(mesh, workload, options.runs))
    return Report("caches", rows, vars(workload), options.quick)


async def measure(mesh: LocalMesh, workload: Workload, runs: int) -> tuple[Row, ...]:
    """The rows, on a mesh that holds the corpus."""
    questions = [query.text for query in corpora.queries(CORPUS)[:: 6000 // workload.questions]][: workload.questions]
    async with mesh.channel("orchestrator") as channel:
        asker = Asker(channel, "default", "", None, cache=CacheControl())
        first = [await asker.ask(question) for question in questions]
        again = [
            [1000 * (await asker.ask(question)).total_s for _ in range(workload.repeats) for question in questions]
            for _ in range(runs)
        ]
    return (*_time_rows(first, again), *_memory_rows(first, workload.entries))


def _time_rows(first: Sequence[Heard], again: Sequence[Sequence[float]]) -> list[Row]:
    def at(percent: float) -> tuple[float, ...]:
        return tuple(percentile(times, percent) for times in again)

    asked = percentile([1000 * heard.total_s for heard in first], 50)
    return [
        Row("a kept answer through the mesh, p50", "ms", at(50), target=Target("value", at_most=15.0)),
        Row("a kept answer through the mesh, p95", "ms", at(95)),
        Row("the same answers when the model gave them, p50", "ms", (asked,)),
    ]


def _memory_rows(heard: Sequence[Heard], entries: int) -> list[Row]:
    kept = [_kept(each) for each in heard]
    cache = ByteCache("bench", MAX_CACHE_MB * MEGABYTE)
    gc.collect()
    before = psutil.Process().memory_info().rss
    for number in range(entries):
        answer = replace(kept[number % len(kept)], answer_id=uuid.uuid4().hex)
        tags = ("collections/default", f"{number % 10:032x}", "", answer.answer_id)
        cache.put(digest(number), packed(answer), tags)
    taken = (psutil.Process().memory_info().rss - before) / MEGABYTE
    return [
        Row(f"{entries:,} kept answers, memory", "MB", (taken,), target=Target("value", at_most=300.0)),
        Row(f"{entries:,} kept answers, as the cache counts them", "MB", (cache.size_bytes / MEGABYTE,)),
    ]


def _kept(heard: Heard) -> KeptAnswer:
    sentences = tuple(GroundedSentence(citation.answer_span, 0.8, True) for citation in heard.citations)
    finish = Finish(
        reason=StopReason.STOP,
        outcome=Outcome.ANSWERED,
        usage=Usage(heard.prompt_tokens, 0, heard.completion_tokens),
        versions=Versions(**heard.versions, corpus=uuid.uuid4().hex),
        timings=Timings(0.012, 0.002, EngineTimings(0.001, 0.2, 0.8), 0.215, heard.total_s),
        sentences=sentences,
    )
    said = (Delta(heard.text), *heard.citations)
    return KeptAnswer(uuid.uuid4().hex, "", (), datetime.now(UTC), heard.sources, said, finish)
