"""Memory of an ingest: what a large text file adds to the idle mesh, and what the ingest processes hold over mixed files.

Embedding a hundred megabytes takes two cores twenty minutes and memory that does not depend on how long it takes, so the
network is a tiny one (tiny_model.py); all else is as ever: its tokens, 384 dimensions, the store, the index builds. Sizes are
proportional set sizes: shared pages are counted once. Pages of the index's files, which the system takes back when it needs
them, belong to that; a row of its own leaves them out.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import corpora
from bench.frame import Report, Row, Target
from bench.local_mesh import LocalMesh, local_mesh
from bench.mixed_files import mixed_files, write_copies
from bench.options import Options
from bench.peak import Peak, peak_memory
from bench.tiny_model import tiny_model

TEXT_MEGABYTES, MIXED_MEGABYTES = 200.0, 1000.0
QUICK_TEXT_MEGABYTES, QUICK_MIXED_MEGABYTES = 0.05, 0.5
IDLE_AFTER_S = 5.0


def run(options: Options, text_megabytes: float = TEXT_MEGABYTES, mixed_megabytes: float = MIXED_MEGABYTES) -> Report:
    """A mesh for each of the two; 0 megabytes leave one out. Always one run: peaks vary little."""
    if options.quick:
        text_megabytes, mixed_megabytes = QUICK_TEXT_MEGABYTES, QUICK_MIXED_MEGABYTES
    rows: list[Row] = []
    with tiny_model() as environment:
        if text_megabytes:
            with local_mesh(**environment) as mesh:
                rows += _text_rows(mesh, text_megabytes)
        if mixed_megabytes:
            with local_mesh(**environment) as mesh:
                rows += _mixed_rows(mesh, mixed_megabytes)
    workload = {"text_megabytes": text_megabytes, "mixed_megabytes": mixed_megabytes}
    return Report("memory", tuple(rows), workload, options.quick)


def _text_rows(mesh: LocalMesh, megabytes: float) -> list[Row]:
    name = f"text file of {megabytes:g} MB"
    idle = _idle(mesh)
    own = sum(mesh.memory_bytes(mapped=False).values())
    with TemporaryDirectory() as folder:
        path = Path(folder) / "large.txt"
        corpora.write_large_file(path, megabytes)
        peak, seconds, chunks = _ingested(mesh, path)
    above = (peak.total - sum(idle.values())) / 1e6
    ingest = (peak.highest["ingest"] - idle["ingest"]) / 1e6
    return [
        Row(f"{name}, ingest and its parsers above idle", "MB", (ingest,), target=Target("value", at_most=600.0)),
        Row(f"{name}, all processes above idle", "MB", (above,), target=Target("value", at_most=600.0)),
        Row(f"{name}, the same without pages of mapped files", "MB", ((peak.own - own) / 1e6,)),
        *_service_rows(name, peak, idle),
        Row(f"{name}, took", "s", (seconds,)),
        Row(f"{name}, chunks", "chunks", (chunks,)),
    ]


def _mixed_rows(mesh: LocalMesh, megabytes: float) -> list[Row]:
    name = f"{megabytes:g} MB of mixed files"
    idle = _idle(mesh)
    with TemporaryDirectory() as folder:
        files = write_copies(mixed_files(), Path(folder), most_bytes=int(megabytes * 1e6))
        peak, seconds, chunks = _ingested(mesh, Path(folder))
    ingest = peak.highest["ingest"] / 1e6
    return [
        Row(f"{name}, ingest and its parsers", "MB", (ingest,), target=Target("value", at_most=1500.0)),
        *_service_rows(name, peak, idle),
        Row(f"{name}, took", "s", (seconds,)),
        Row(f"{name}, files", "files", (files,)),
        Row(f"{name}, chunks", "chunks", (chunks,)),
    ]


def _idle(mesh: LocalMesh) -> dict[str, int]:
    time.sleep(IDLE_AFTER_S)
    return mesh.memory_bytes()


def _ingested(mesh: LocalMesh, path: Path) -> tuple[Peak, float, int]:
    started_s = time.monotonic()
    with peak_memory(mesh) as peak:
        results = mesh.murphey("ingest", str(path), bad_files=True)
        seconds = time.monotonic() - started_s
        mesh.settle("retriever")  # its index is built when the last chunk has come
    return peak, seconds, sum(result["chunks"] for result in results)


def _service_rows(name: str, peak: Peak, idle: dict[str, int]) -> list[Row]:
    return [
        Row(f"{name}, most of {service} above idle", "MB", ((bytes_ - idle.get(service, 0)) / 1e6,))
        for service, bytes_ in sorted(peak.highest.items())
    ]
