"""Mixed files: manuals, filings and samples of formats to searchable chunks, beside the embedder alone on the resulting chunks.

`murphey ingest FOLDER` is timed from its start until every document is live or has failed. Texts of documents with more
chunks than one search returns are left out of what the embedder alone is given; its chunks a second hardly depend on them.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.frame import Reference, Report, Row, Target
from bench.ingest import MAX_FOUND, embedder_chunks_per_s, indexed_texts
from bench.local_mesh import LocalMesh, local_mesh
from bench.mixed_files import mixed_files, write_copies
from bench.options import Options

QUICK_FILES, QUICK_BYTES = 10, 20_000


@dataclass(frozen=True)
class Run:
    """What one run measured."""

    live: int
    failed: int
    chunks: int
    seconds: float
    embedder_chunks_per_s: float


def run(options: Options) -> Report:
    """Mesh and embedder in turn, as often as there are runs, each on a mesh of its own."""
    files = mixed_files(QUICK_BYTES)[:QUICK_FILES] if options.quick else mixed_files()
    with TemporaryDirectory() as folder:
        write_copies(files, Path(folder))
        runs = [_run(Path(folder)) for _ in range(options.runs)]
    reference = Reference("embedder alone, same chunks", tuple(each.embedder_chunks_per_s for each in runs))
    rates = tuple(each.chunks / each.seconds for each in runs)
    row = Row("mixed files to live chunks", "chunks/s", rates, reference, Target("ratio", at_least=0.85))
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    workload = {
        "files": len(files), "megabytes": round(megabytes, 1), "live": runs[0].live, "failed": runs[0].failed,
        "chunks": runs[0].chunks,
    }  # fmt: skip
    return Report("mixed", (row,), workload, options.quick)


def _run(folder: Path) -> Run:
    with local_mesh() as mesh:
        made, texts = measure(mesh, folder)
    return replace(made, embedder_chunks_per_s=embedder_chunks_per_s(texts))


def measure(mesh: LocalMesh, folder: Path) -> tuple[Run, list[str]]:
    """Has the mesh take a folder in; answers with the chunks' texts for the embedder, whose figure is still 0."""
    started_s = time.perf_counter()
    results = mesh.murphey("ingest", str(folder), bad_files=True)
    seconds = time.perf_counter() - started_s
    live = [result for result in results if result["status"] == "indexed"]
    texts = indexed_texts(mesh, [result["document"] for result in live if result["chunks"] <= MAX_FOUND])
    return Run(len(live), len(results) - len(live), sum(result["chunks"] for result in live), seconds, 0.0), texts
