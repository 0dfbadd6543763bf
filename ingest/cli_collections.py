"""`murphey collections reindex | update | rollback`: what becomes of a collection's documents when its settings change."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ingest.cli_documents import ingest_stub
from ingest.cli_jobs import WATCH_TIMEOUT_S, job_json
from ingest.cli_progress import progress_bars
from mesh import terminal
from mesh.collection_options import (
    PREPARE_TIMEOUT_S,
    EmbedderOption,
    NameArgument,
    OverlapOption,
    SplitterOption,
    TokensOption,
    chunking,
    full_name,
)
from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub

DetachOption = Annotated[bool, typer.Option("--detach", help="Do not wait; follow it with `murphey jobs watch`.")]


def register(group: typer.Typer) -> None:
    """Adds the commands to the group `collections`."""
    for command, name in ((_reindex, "reindex"), (_update, "update"), (_rollback, "rollback")):
        group.command(name)(command)


def _reindex(
    name: NameArgument,
    embedder: EmbedderOption = "",
    chunk_tokens: TokensOption = 0,
    chunk_overlap: OverlapOption = None,
    splitter: SplitterOption = None,
    detach: DetachOption = False,
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    target: terminal.TargetOption = None,
    as_json: terminal.JsonOption = False,
) -> None:
    """Embed and cut a collection's documents anew, beside the index that searches use; then swap the two.

    The stored texts are used, nothing is uploaded. The index before is kept for `murphey collections rollback`.
    """
    cut = chunking(chunk_tokens, chunk_overlap, splitter)
    request = pb.ReindexCollectionRequest(name=full_name(name), embedder=embedder, chunking=cut)
    _finish(terminal.run(_follow(request, data, target, as_json, detach)), as_json, detach)


def _update(
    name: NameArgument,
    chunk_tokens: TokensOption = 0,
    chunk_overlap: OverlapOption = None,
    splitter: SplitterOption = None,
    detach: DetachOption = False,
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    target: terminal.TargetOption = None,
    as_json: terminal.JsonOption = False,
) -> None:
    """Cut a collection's documents otherwise, from their stored texts. Chunks that stay the same are not embedded again."""
    _reindex(name, "", chunk_tokens, chunk_overlap, splitter, detach, data, target, as_json)


def _rollback(
    name: NameArgument,
    detach: DetachOption = False,
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    target: terminal.TargetOption = None,
    as_json: terminal.JsonOption = False,
) -> None:
    """Go back to the index before, once it has been given what changed since."""
    request = pb.RollbackCollectionRequest(name=full_name(name))
    _finish(terminal.run(_follow(request, data, target, as_json, detach)), as_json, detach)


async def _follow(
    request: pb.ReindexCollectionRequest | pb.RollbackCollectionRequest,
    data: Path, target: str | None, as_json: bool, detach: bool,
) -> pb.Job:  # fmt: skip
    """The job as it was seen last."""
    async with ingest_stub(data, target) as stub:
        begin: Any = (
            stub.RollbackCollection if isinstance(request, pb.RollbackCollectionRequest) else stub.ReindexCollection
        )
        job = (await begin(request, timeout=PREPARE_TIMEOUT_S)).job
        return job if detach else await _watched(stub, job, as_json)


async def _watched(stub: IngestServiceStub, job: pb.Job, as_json: bool) -> pb.Job:
    """Shows documents as a bar on a terminal, each change as a line for machines."""
    hidden = as_json or not terminal.console.is_terminal
    call = stub.WatchJob(pb.WatchJobRequest(name=job.name), timeout=WATCH_TIMEOUT_S)
    with progress_bars(hidden=hidden) as bars:
        bar = bars.add_task("reindexed", total=None)
        try:
            async for response in call:
                job = response.job
                bars.update(bar, completed=job.indexed_documents, total=job.total_documents or None)
                if as_json:
                    terminal.print_json(job_json(job))
        finally:
            call.cancel()
    return job


def _finish(job: pb.Job, as_json: bool, detach: bool) -> None:
    shown = job_json(job)
    if detach and as_json:
        terminal.print_json(shown)
    elif not as_json:
        what = f"{job.indexed_documents} of {job.total_documents} documents, {job.indexed_chunks} chunks"
        reason = f": {job.error.message}" if job.error.message else ""
        terminal.out.print(f"{shown['job']} {shown['state']}, {what}{reason}", markup=False)
    if not detach and job.state != pb.JOB_STATE_SUCCEEDED:
        raise typer.Exit(1)
