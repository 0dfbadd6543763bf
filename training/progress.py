"""What long commands of this room show: one bar with rate and time left on a terminal, nothing elsewhere or with --json."""

from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)  # fmt: skip

from mesh import terminal


class Bar:
    """One bar. `in_bytes` when what is counted are bytes; `total` None where nobody knows it."""

    def __init__(self, name: str, total: int | None, *, in_bytes: bool = False, quiet: bool = False) -> None:
        counted = DownloadColumn() if in_bytes else MofNCompleteColumn()
        columns = (
            TextColumn("{task.description}"), BarColumn(), counted, TextColumn("{task.fields[note]}"), TimeElapsedColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip
        hidden = quiet or not terminal.console.is_terminal
        self._progress = Progress(*columns, console=terminal.console, disable=hidden, transient=True)
        self._task: TaskID = self._progress.add_task(name, total=total, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, done: int, note: str = "", *, name: str | None = None, total: int | None = None) -> None:
        """So much is done; `name` and `total` where they changed."""
        changed = {key: value for key, value in (("description", name), ("total", total)) if value is not None}
        self._progress.update(self._task, completed=done, note=note, **changed)  # pyright: ignore[reportArgumentType]
