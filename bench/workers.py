"""Two ingest workers beside one, on a thousand small files of many formats, and the same folder again, unchanged.

Workers share a data folder and one retriever, whose network is a tiny one (tiny_model.py), so that embedding is not the
bound. All files are sent to the first worker.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.frame import Reference, Report, Row, Target
from bench.local_mesh import murphey
from bench.mixed_files import mixed_files, write_copies
from bench.options import Options
from bench.tiny_model import tiny_model
from bench.victims import Victim, counted
from mesh import threads

FILES, QUICK_FILES = 1_000, 20
SMALL_BYTES = 100_000


@dataclass(frozen=True)
class Outcome:
    """Seconds of an ingest and of the same one again, and how many texts were embedded in both."""

    seconds: float
    again_s: float
    embedded: float


def run(options: Options) -> Report:
    """One worker, then two, as often as there are runs, each on a data folder of its own."""
    with tiny_model() as environment, tempfile.TemporaryDirectory() as folder:
        count = QUICK_FILES if options.quick else FILES
        write_copies(mixed_files(SMALL_BYTES), Path(folder), most_files=count)
        pairs = [[asyncio.run(_measured(Path(folder), environment, workers)) for workers in (1, 2)]
                 for _ in range(options.runs)]  # fmt: skip
    one, two = ([pair[number] for pair in pairs] for number in (0, 1))
    reference = Reference("one worker", tuple(count / outcome.seconds for outcome in one))
    rates = tuple(count / outcome.seconds for outcome in two)
    doubled = tuple(max(0.0, second.embedded - first.embedded) for first, second in pairs)
    again = tuple(outcome.again_s for outcome in one)
    rows = (
        Row("two workers", "files/s", rates, reference, Target("ratio", at_least=1.7)),
        Row("texts embedded by two and not by one", "texts", doubled, target=Target("value", at_most=0)),
        Row("the same folder again, unchanged", "s", again, target=Target("value", at_most=3)),
    )
    return Report("workers", rows, {"files": count, "texts": one[0].embedded}, options.quick)


async def _measured(folder: Path, environment: dict[str, str], workers: int) -> Outcome:
    async with _mesh(environment, workers) as (target, data):
        counters = data / "counters"
        seconds = await asyncio.to_thread(_ingest, folder, target)
        embedded = counted(counters, "murphey_embedded_texts", purpose="document")
        again_s = await asyncio.to_thread(_ingest, folder, target)
        if counted(counters, "murphey_embedded_texts", purpose="document") > embedded:
            raise RuntimeError("An unchanged folder was embedded again.")
        return Outcome(seconds, again_s, embedded)


def _ingest(folder: Path, target: str) -> float:
    started_s = time.perf_counter()
    murphey("ingest", str(folder), "--target", target, bad_files=True)
    return time.perf_counter() - started_s


@asynccontextmanager
async def _mesh(added: dict[str, str], workers: int) -> AsyncIterator[tuple[str, Path]]:
    with tempfile.TemporaryDirectory(prefix="murphey-bench-") as name:
        data = Path(name)
        environment = dict(os.environ) | added | {"PROMETHEUS_MULTIPROC_DIR": str(data / "counters")}
        threads.limit(environment)
        (data / "counters").mkdir()
        retriever = Victim("retriever", [f"--data={data}"], data / "retriever.log", environment)
        flags = [f"--data={data}", f"--retriever={retriever.target}"]
        ingest = [Victim("ingest", flags, data / f"ingest-{number}.log", environment) for number in range(workers)]
        try:
            for process in (retriever, *ingest):
                await process.start()
            yield ingest[0].target, data
        finally:
            for process in (*ingest, retriever):
                await process.kill()
