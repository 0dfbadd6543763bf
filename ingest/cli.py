"""`murphey ingest PATH…`, and the groups `murphey documents` and `murphey jobs`."""

import asyncio
import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from ingest import cli_documents, cli_jobs
from ingest.documents import Metadata, MetadataValue
from ingest.sending import Progress, Result, Sender
from ingest.sources import Source, find_sources
from mesh import terminal
from mesh.discovery import channel_for
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub

MANY_ALIKE = 100
"""More files than that with one error, such as a service that is down, are named together."""

CollectionOption = Annotated[str, typer.Option("--collection", help="The collection's id.")]


def register(root: typer.Typer) -> None:
    """Adds the commands."""
    root.command()(ingest)
    root.add_typer(cli_documents.commands(), name="documents")
    root.add_typer(cli_jobs.commands(), name="jobs")


def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders.")],
    collection: CollectionOption = "default",
    prefix: Annotated[str, typer.Option(help="Put before each document's name, such as reports/.")] = "",
    meta: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, kept with each document; may be repeated.")] = None,
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    target: terminal.TargetOption = None,
    as_json: terminal.JsonOption = False,
) -> None:
    """Make documents searchable. A name that is there already is replaced; unchanged files are not sent."""
    for path in paths:
        if not path.exists():
            terminal.fail(f"There is no file or folder {path}.", code=2)
    metadata = dict(_metadata(pair) for pair in meta or [])
    outcome = _Outcome(as_json)
    terminal.run(_ingest(list(find_sources(paths, prefix)), collection, metadata, data, target, outcome))
    outcome.finish()


async def _ingest(
    sources: list[Source], collection: str, metadata: Metadata, data: Path, target: str | None, outcome: "_Outcome"
) -> None:
    async with channel_for("ingest", data, target) as channel:
        with outcome.bars(len(sources)):
            stub = IngestServiceStub(channel)
            sender = Sender(stub, f"collections/{collection}", metadata, outcome.report, outcome.advance)
            try:
                await sender.send(sources)
            except asyncio.CancelledError:
                terminal.console.print(
                    "Interrupted. What was uploaded goes on in the service; see [bold]murphey jobs list[/bold]."
                )
                raise


@dataclass
class _Outcome:
    """What is shown: bars while it runs, a line a file for machines, and the summary."""

    as_json: bool
    counts: Counter[str] = field(default_factory=Counter)
    chunks: int = 0
    failed: list[Result] = field(default_factory=list)
    _bars: Bars | None = None

    @contextmanager
    def bars(self, files: int) -> Iterator[None]:
        """Shows a bar a stage on a terminal."""
        columns = (TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        disable = self.as_json or not terminal.console.is_terminal
        with Bars(*columns, console=terminal.console, disable=disable, transient=True) as self._bars:
            for name in ("uploaded", "parsed", "embedded", "done"):
                self._bars.add_task(name, total=None if name == "embedded" else files)
            yield

    def advance(self, progress: Progress) -> None:
        """Moves the bars."""
        if self._bars is not None:
            counted = (progress.stored, progress.parsed, progress.embedded, progress.ended)
            for task, completed in zip(self._bars.task_ids, counted, strict=True):
                self._bars.update(task, completed=completed)
            self._bars.update(self._bars.task_ids[2], total=progress.chunks or None)

    def report(self, result: Result) -> None:
        """A file has ended."""
        self.counts[result.status] += 1
        self.chunks += result.chunks
        if result.status == "failed":
            self.failed.append(result)
        if self.as_json:
            terminal.print_json({
                "path": str(result.path), "document": result.document, "status": result.status,
                "chunks": result.chunks, "error": result.error,
            })  # fmt: skip

    def finish(self) -> None:
        """The summary; exit 1 when a file failed."""
        by_error: dict[str | None, list[Result]] = {}
        for result in self.failed:
            by_error.setdefault(result.error, []).append(result)
        for error, results in by_error.items():
            shown = results if len(results) <= MANY_ALIKE or self.as_json else results[:1]
            for result in shown:
                more = "" if shown is results else f" and {len(results) - 1} more files"
                terminal.console.print(f"failed: {result.path}{more}: {error}", markup=False, soft_wrap=True)
        if not self.as_json:
            parts = [f"{self.counts[status]} {status}" for status in ("indexed", "replaced", "unchanged", "failed")]
            terminal.out.print(f"{self.counts.total()} files: {', '.join(parts)}; {self.chunks} chunks.")
        if self.failed:
            raise typer.Exit(1)


def _metadata(pair: str) -> tuple[str, MetadataValue]:
    """KEY=VALUE; numbers, true and false are taken as such, `KEY="2024"` as a string."""
    key, separator, text = pair.partition("=")
    if not separator or not key:
        terminal.fail(f"--meta {pair!r} is not of the form KEY=VALUE.", code=2)
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return key, text
    if isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return key, value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return key, value
    return key, text
