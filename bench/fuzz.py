"""Fuzz: mutated requests to every RPC of a mesh, and damaged documents to the parsers. Nothing may break.

A request may be answered or refused; INTERNAL and UNKNOWN are bugs, and so is a service that had to be started again. A
document may be read or refused; a parser that dies of one is a bug. What is found is printed with its number, by which the
seed makes it again.
"""

import asyncio
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import grpc.aio
import psutil

from bench.corpora import data_folder
from bench.frame import Report, Row, Target
from bench.local_mesh import LocalMesh, local_mesh, models_folder
from bench.mutations import Method, damaged, endless, methods, odd_metadata, requests
from bench.options import Options
from bench.tiny_llm import tiny_llm
from ingest.documents import Failure
from ingest.parsers.pool import WorkerLimits, WorkerPool
from ingest.parsers.reading import ReadLimits

REQUESTS, DOCUMENTS = 20_000, 200
QUICK_REQUESTS, QUICK_DOCUMENTS = 300, 8
AT_ONCE = 32
TIMEOUT_S = 3.0
BUGS = ("INTERNAL", "UNKNOWN")
SHOWN = 20
PARSE_TIMEOUT_S, LARGEST_BYTES, MOST_TEXT_BYTES = 60.0, 2_000_000, 64 << 20
PARSERS = 2


@dataclass
class Found:
    """How calls and documents ended, and what is wrong."""

    statuses: Counter[str] = field(default_factory=Counter)
    bugs: Counter[str] = field(default_factory=Counter)
    restarted: int = 0
    documents: Counter[str] = field(default_factory=Counter)
    deaths: list[str] = field(default_factory=list)


def run(options: Options, calls: int, documents: int, seed: int | None) -> Report:
    """So many mutated requests and documents."""
    calls, documents = (QUICK_REQUESTS, QUICK_DOCUMENTS) if options.quick else (calls, documents)
    seed = random.randrange(2**32) if seed is None else seed
    found = Found()
    if calls:
        with ExitStack() as stack:
            mesh = stack.enter_context(local_mesh(**stack.enter_context(tiny_llm())))
            asyncio.run(fuzz_requests(mesh, calls, seed, found))
    if documents:
        asyncio.run(fuzz_documents(documents, seed, found))
    nothing = Target("value", at_most=0)
    rows = (
        Row("requests answered INTERNAL or UNKNOWN", "requests", (sum(found.bugs.values()),), target=nothing),
        Row("services that had to be started again", "services", (found.restarted,), target=nothing),
        Row("documents that a parser died of", "documents", (len(found.deaths),), target=nothing),
        Row("requests", "requests", (found.statuses.total(),)),
        Row("documents", "documents", (found.documents.total(),)),
    )
    workload = {
        "seed": seed, "statuses": dict(found.statuses), "bugs": dict(found.bugs), "documents": dict(found.documents),
        "deaths": found.deaths,
    }  # fmt: skip
    return Report("fuzz", rows, workload, options.quick)


async def fuzz_requests(mesh: LocalMesh, count: int, seed: int, found: Found) -> None:
    """Several at once, each to a method by chance."""
    known, numbered = methods(), endless(seed)
    before = _processes(mesh)
    options = [("grpc.max_receive_message_length", -1)]
    channels = {name: grpc.aio.insecure_channel(address, options=options) for name, address in mesh.services.items()}

    async def worker() -> None:
        for number, chance in numbered:
            if number >= count:
                return
            method = chance.choice(known)
            await _call(channels[method.service], method, number, chance, found)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    await asyncio.gather(*(channel.close() for channel in channels.values()))
    found.restarted = len(before - _processes(mesh))


async def _call(channel: grpc.aio.Channel, method: Method, number: int, chance: random.Random, found: Found) -> None:
    sent, metadata = requests(method, chance), odd_metadata(chance)
    kind = f"{'stream' if method.streams_requests else 'unary'}_{'stream' if method.streams_responses else 'unary'}"
    call: Any = getattr(channel, kind)(method.path)(
        iter(sent) if method.streams_requests else sent[0], timeout=TIMEOUT_S, metadata=metadata
    )
    status, detail = "OK", ""
    try:
        if method.streams_responses:
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        status, detail = error.code().name, error.details() or ""
    found.statuses[status] += 1
    if status in BUGS:
        found.bugs[f"{method.path}: {detail[:150]}"] += 1
        if found.bugs.total() <= SHOWN:
            print(f"{status} request {number} {method.path} {detail[:300]} {sent[0][:200].hex()}", file=sys.stderr)


def _processes(mesh: LocalMesh) -> set[int]:
    """The services' own; what they start and end themselves does not count."""
    return {child.pid for child in psutil.Process(mesh.process.pid).children()}


async def fuzz_documents(count: int, seed: int, found: Found) -> None:
    """Sample documents of every format, damaged."""
    pool = WorkerPool(
        WorkerLimits(
            PARSERS, PARSE_TIMEOUT_S, 1024, 500, str(models_folder() / "all-minilm-l6-v2"), models_folder(),
            ReadLimits(MOST_TEXT_BYTES),
        )
    )  # fmt: skip
    samples = list(_samples())
    numbered = endless(seed)

    async def worker(folder: Path) -> None:
        for number, chance in numbered:
            if number >= count:
                return
            await _parse(pool, chance.choice(samples), number, chance, folder / str(number), found)

    with TemporaryDirectory(prefix="murphey-fuzz-") as folder:
        try:
            await asyncio.gather(*(worker(Path(folder)) for _ in range(PARSERS)))
        finally:
            await pool.close()


def _samples() -> Iterator[Path]:
    for path in sorted((data_folder() / "docs").rglob("*")):
        if path.is_file() and 0 < path.stat().st_size <= LARGEST_BYTES:
            yield path


def _write_damaged(sample: Path, chance: random.Random, folder: Path) -> Path:
    folder.mkdir()
    path = folder / f"document{sample.suffix}"
    path.write_bytes(damaged(sample.read_bytes(), chance))
    return path


async def _parse(
    pool: WorkerPool, sample: Path, number: int, chance: random.Random, folder: Path, found: Found
) -> None:
    path = await asyncio.to_thread(_write_damaged, sample, chance, folder)
    parsed = await pool.parse(path, sample.name, folder / "text", folder / "index", folder / "members")
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    if not isinstance(parsed, Failure):
        found.documents["read"] += 1
        return
    died = "makes the parser fail" in parsed.message
    found.documents["died" if died else "too long" if "took over" in parsed.message else parsed.reason] += 1
    if died or parsed.reason in BUGS:
        found.deaths.append(f"{number}: {sample.name}: {parsed.message}")
        print(f"document {number} of {sample.name}: {parsed.message}", file=sys.stderr)
