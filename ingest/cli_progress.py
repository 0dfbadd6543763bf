"""What `murphey ingest` shows: bars while it runs, a line a document for machines, and a summary."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from ingest.results import Progress, Result
from ingest.sources import printable
from mesh import terminal

MANY_ALIKE = 100
"""More files than that with one error, such as a service that is down, are named together."""
_UNITS = {"embedded": "chunks", "reindexed": "documents"}
_STAGES = ("uploaded", "parsed", "embedded", "done")


class _Rate(TextColumn):
    """Files, documents or chunks a second."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        unit = _UNITS.get(task.description, "files")
        return Text(f"{task.speed:.1f} {unit}/s" if task.speed else "", style="progress.data.speed")


def progress_bars(*, hidden: bool) -> Bars:
    """A line a task: how many of how many, how fast, and how long yet."""
    columns = (
        TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    return Bars(*columns, console=terminal.console, disable=hidden, transient=True)


@dataclass
class Display:
    """`each` shows every document as it ends, but for those that are unchanged: for a command that never ends."""

    as_json: bool
    each: bool = False
    dry_run: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    chunks: int = 0
    failed: list[Result] = field(default_factory=list)
    _bars: Bars | None = None

    @property
    def interactive(self) -> bool:
        """Whether somebody looks on."""
        return terminal.console.is_terminal and not self.as_json

    @contextmanager
    def bars(self) -> Iterator[None]:
        """Shows a bar a stage on a terminal."""
        with progress_bars(hidden=self.each or not self.interactive) as self._bars:
            for name in _STAGES:
                self._bars.add_task(name, total=None)
            yield

    def advance(self, progress: Progress) -> None:
        """Moves the bars. How many chunks there will be is told from the files that have been cut so far."""
        if self._bars is None:
            return
        files = progress.found - progress.idle
        chunks = int(progress.chunks * max(1.0, files / progress.parsed)) if progress.parsed else None
        completed = (progress.stored, progress.parsed, progress.embedded, progress.ended)
        totals = (files, files, chunks, progress.found)
        for task, done, total in zip(self._bars.task_ids, completed, totals, strict=True):
            self._bars.update(task, completed=done, total=total)

    def report(self, result: Result) -> None:
        """A document has ended."""
        self.counts[result.status] += 1
        self.chunks += result.chunks
        if result.status == "failed" and not self.each:
            self.failed.append(result)
        if self.each and result.status == "unchanged":
            return
        if self.as_json:
            terminal.print_json({
                "path": _encodable(result.path), "document": _encodable(result.document), "status": result.status,
                "chunks": result.chunks, "error": result.error,
            })  # fmt: skip
        elif self.each or (self.dry_run and result.status not in ("unchanged", "failed")):
            error = f": {result.error}" if result.error else ""
            terminal.out.print(f"{result.status:<9} {printable(result.document)}{error}", markup=False)

    def finish(self) -> None:
        """The summary; exit 1 when a file failed."""
        by_error: dict[str | None, list[Result]] = {}
        for result in self.failed:
            by_error.setdefault(result.error, []).append(result)
        for error, results in by_error.items():
            shown = results if len(results) <= MANY_ALIKE or self.as_json else results[:1]
            for result in shown:
                more = "" if shown is results else f" and {len(results) - 1} more files"
                terminal.console.print(f"failed: {printable(result.path)}{more}: {error}", markup=False, soft_wrap=True)
        if not self.as_json:
            terminal.out.print(self.summary())
        if self.failed:
            raise typer.Exit(1)

    def summary(self) -> str:
        """Counts in a line."""
        parts = [f"{self.counts[status]} {status}" for status in ("indexed", "replaced", "unchanged", "failed")]
        if self.counts["removed"]:
            parts.append(f"{self.counts['removed']} removed")
        files = self.counts.total() - self.counts["removed"]
        would = "It would be: " if self.dry_run else ""
        return f"{would}{files} files: {', '.join(parts)}; {self.chunks} chunks."


def _encodable(text: str) -> str:
    """Bytes of a file name that are not UTF-8 are escaped."""
    return text.encode(errors="backslashreplace").decode()
