"""`murphey jobs list | show | watch | cancel | retry`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ingest.cli_documents import TIMEOUT_S, enum_value, ingest_stub, print_fields
from mesh import terminal
from murphey.ingest.v1 import ingest_pb2 as pb

WATCH_TIMEOUT_S = 24 * 3600.0

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job, as jobs/ID or ID.")]


def commands() -> typer.Typer:
    """The group."""
    group = typer.Typer(help="See, stop and repeat the work on documents.", no_args_is_help=True)
    for command, name in ((_list, "list"), (_show, "show"), (_watch, "watch"), (_cancel, "cancel"), (_retry, "retry")):
        group.command(name)(command)
    return group


def _list(
    state: Annotated[str, typer.Option(help="Only queued, running, succeeded, failed or cancelled ones.")] = "",
    batch: Annotated[str, typer.Option(help="Only those with this label.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the newest first.")] = 50,
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    target: terminal.TargetOption = None,
    as_json: terminal.JsonOption = False,
) -> None:
    """List jobs, the newest first."""

    async def show() -> None:
        async with ingest_stub(data, target) as stub:
            request = pb.ListJobsRequest(page_size=limit, batch=batch, state=enum_value(pb.JobState, state))
            _print_jobs((await stub.ListJobs(request, timeout=TIMEOUT_S)).jobs, as_json)

    terminal.run(show())


def _show(
    job: JobArgument,
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    target: terminal.TargetOption = None,
    as_json: terminal.JsonOption = False,
) -> None:
    """Show a job."""
    terminal.run(_print_job("GetJob", pb.GetJobRequest(name=_name(job)), data, target, as_json))


def _watch(
    job: JobArgument,
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    target: terminal.TargetOption = None,
    as_json: terminal.JsonOption = False,
) -> None:
    """Follow a job to its end; exit 1 when it fails."""
    last = terminal.run(_follow(_name(job), data, target, as_json))
    if last.state != pb.JOB_STATE_SUCCEEDED:
        raise typer.Exit(1)


async def _follow(name: str, data: Path, target: str | None, as_json: bool) -> pb.Job:
    last = pb.Job()
    async with ingest_stub(data, target) as stub:
        call = stub.WatchJob(pb.WatchJobRequest(name=name), timeout=WATCH_TIMEOUT_S)
        try:
            async for response in call:
                last = response.job
                shown = job_json(last)
                if as_json:
                    terminal.print_json(shown)
                else:
                    chunks = f"{last.indexed_chunks}/{last.total_chunks} chunks"
                    terminal.out.print(
                        f"{shown['state']:<10} {shown['stage']:<8} {chunks}  {shown['error'] or ''}", markup=False
                    )
        finally:
            call.cancel()
    return last


def _cancel(
    job: JobArgument,
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    target: terminal.TargetOption = None,
    as_json: terminal.JsonOption = False,
) -> None:
    """Stop a job; an earlier version of its document stays as it is."""
    terminal.run(_print_job("CancelJob", pb.CancelJobRequest(name=_name(job)), data, target, as_json))


def _retry(
    job: JobArgument,
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    target: terminal.TargetOption = None,
    as_json: terminal.JsonOption = False,
) -> None:
    """Run a failed or cancelled job again."""
    terminal.run(_print_job("RetryJob", pb.RetryJobRequest(name=_name(job)), data, target, as_json))


async def _print_job(
    method: str,
    request: pb.GetJobRequest | pb.CancelJobRequest | pb.RetryJobRequest,
    data: Path,
    target: str | None,
    as_json: bool,
) -> None:
    """Calls a method that answers with a job, and prints that."""
    async with ingest_stub(data, target) as stub:
        answer = await getattr(stub, method)(request, timeout=TIMEOUT_S)
    print_fields(job_json(answer.job), as_json)


def job_json(job: pb.Job) -> dict[str, Any]:
    """Stable keys."""
    return {
        "job": job.name,
        "document": job.display_name,
        "name": job.document,
        "batch": job.batch,
        "state": pb.JobState.Name(job.state).removeprefix("JOB_STATE_").lower(),
        "stage": pb.JobStage.Name(job.stage).removeprefix("JOB_STAGE_").lower(),
        "kind": pb.JobKind.Name(job.kind).removeprefix("JOB_KIND_").lower(),
        "outcome": pb.JobOutcome.Name(job.outcome).removeprefix("JOB_OUTCOME_").lower() if job.outcome else None,
        "total_chunks": job.total_chunks,
        "indexed_chunks": job.indexed_chunks,
        "total_documents": job.total_documents,
        "indexed_documents": job.indexed_documents,
        "error": job.error.message or None,
        "created": job.create_time.ToJsonString(),
        "updated": job.update_time.ToJsonString(),
    }


def _print_jobs(jobs: Any, as_json: bool) -> None:
    if as_json:
        terminal.print_json({"jobs": [job_json(job) for job in jobs]})
        return
    headers = ("job", "document", "state", "stage", "chunks", "error")
    rows = []
    for job in jobs:
        shown = job_json(job) | {"chunks": f"{job.indexed_chunks}/{job.total_chunks}"}
        rows.append([shown[header] or "" for header in headers])
    terminal.print_table(headers, rows)


def _name(job: str) -> str:
    return job if job.startswith("jobs/") else f"jobs/{job}"
