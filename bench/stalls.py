"""Whether anything stalls: searches and health checks during a bulk upsert of 100,000 chunks and the index builds it causes.

Searches go to the very collection that is being filled. The prober is a process of its own, so that the writer's work is
not taken for the mesh's; it still shares the cores.
"""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench import synthetic
from bench.children import ChildFailed, module
from bench.frame import Report, Row, Target
from bench.latency import percentile
from bench.local_mesh import LocalMesh, local_mesh
from bench.options import Options
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

FULL_CHUNKS, QUICK_CHUNKS = 100_000, 1_500


@dataclass
class Watched:
    """What the prober saw; filled when it has ended."""

    search_ms: list[float] = field(default_factory=list)
    health_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def run(options: Options) -> Report:
    """One mesh, a new collection for each run."""
    chunks = QUICK_CHUNKS if options.quick else FULL_CHUNKS
    with local_mesh() as mesh:
        measured = [asyncio.run(measure(mesh, f"bench-stalls-{number}", chunks)) for number in range(options.runs)]
    rates, watched = zip(*measured, strict=True)
    failures = [failure for one in watched for failure in one.failures]
    rows = (
        Row("search, p99", "ms", _percentiles(watched, "search_ms", 99), target=Target("value", at_most=60.0)),
        Row(
            "health check, longest", "ms", _percentiles(watched, "health_ms", 100), target=Target("value", at_most=50.0)
        ),
        Row(
            "calls that failed", "calls", tuple(len(one.failures) for one in watched), target=Target("value", at_most=0)
        ),
        Row("search, p50", "ms", _percentiles(watched, "search_ms", 50)),
        Row("search, longest", "ms", _percentiles(watched, "search_ms", 100)),
        Row("health check, p99", "ms", _percentiles(watched, "health_ms", 99)),
        Row("upsert meanwhile", "chunks/s", rates),
    )
    calls = [len(one.search_ms) for one in watched]
    return Report("stalls", rows, {"chunks": chunks, "searches": calls}, options.quick, tuple(sorted(set(failures))))


async def measure(mesh: LocalMesh, collection: str, chunks: int) -> tuple[float, Watched]:
    """Chunks a second of the writer, and what was seen meanwhile."""
    async with mesh.channel("retriever") as channel:
        stub = RetrieverServiceStub(channel)
        await mesh.create_collection(collection)
        base = await synthetic.base_vectors(stub, min(1_000, chunks // 10))
        with watching(mesh, collection) as watched:
            rate = await synthetic.fill(stub, collection, chunks, base)
            await asyncio.to_thread(mesh.settle, "retriever")
    return rate, watched


@contextmanager
def watching(mesh: LocalMesh, collection: str) -> Iterator[Watched]:
    """Probes while inside; what it saw is there on leaving."""
    command = [
        *module("bench.prober"), f"--retriever={mesh.services['retriever']}",
        f"--services={','.join(mesh.services.values())}", f"--collection=collections/{collection}",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watched = Watched()
    try:
        yield watched
        out, errors = process.communicate(timeout=120)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    if process.returncode != 0:
        raise ChildFailed(f"The prober ended with {process.returncode}:\n{errors[-2000:]}")
    seen: dict[str, Any] = json.loads(out)
    watched.search_ms, watched.health_ms, watched.failures = seen["search_ms"], seen["health_ms"], seen["failures"]


def _percentiles(watched: tuple[Watched, ...], name: str, percent: float) -> tuple[float, ...]:
    return tuple(percentile(getattr(one, name), percent) for one in watched)
