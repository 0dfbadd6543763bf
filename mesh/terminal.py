"""What every command of `murphey` shares: options, output, errors and exit codes.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage,
130 interrupted.
"""

import asyncio
import json
import re
import sys
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import grpc
import typer
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mesh.errors import MurpheyError, from_rpc_error

DataOption = Annotated[
    Path, typer.Option("--data", envvar="MURPHEY_DATA", help="Data folder of the mesh on this machine.")
]
TargetOption = Annotated[
    str | None,
    typer.Option("--target", envvar="MURPHEY_TARGET", help="One address that routes all services, instead of --data."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
RerankOption = Annotated[bool, typer.Option("--rerank", help="Order the best passages anew with a reranker.")]
RerankerOption = Annotated[
    str, typer.Option("--reranker", help="Rerank with this one instead of the retriever's default one.")
]
DEFAULT_DATA = Path(".murphey")

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """Text of others, such as a document's, in which nothing steers a terminal: control characters but newline and tab, and
    what turns the direction of writing, are escaped.
    """
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class _Screen(Console):
    """Shows whatever it is given, as text."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(harmless(each) if isinstance(each, str) else each for each in objects), **options)


out = _Screen(highlight=False, soft_wrap=True)
console = _Screen(stderr=True, highlight=False)

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs a command's coroutine; what goes wrong becomes one clear line and an exit code."""
    try:
        return asyncio.run(work)
    except MurpheyError as error:
        fail(error.message)
    except grpc.RpcError as error:
        fail(from_rpc_error(error, "mesh").message)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def fail(message: str, code: int = 1) -> NoReturn:
    """Says why on standard error and exits."""
    console.print(f"[red]error:[/red] {escape(message)}", soft_wrap=True)
    raise typer.Exit(code)


def print_json(value: Any) -> None:
    """One JSON value on one line of standard output, in ASCII where that is not UTF-8."""
    is_utf8 = (sys.stdout.encoding or "utf-8").lower() in ("utf-8", "utf8")
    sys.stdout.write(json.dumps(value, ensure_ascii=not is_utf8) + "\n")
    sys.stdout.flush()


def write(text: str) -> None:
    """Text on standard output as it stands, piece by piece; on a terminal it steers nothing."""
    sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows of plain text, of which nothing is cut off: a terminal folds what is too wide, elsewhere a row is a line.

    The first column, by which a row is named in other commands, is folded last.
    """
    lines = [[harmless(cell).replace("\n", " ") for cell in row] for row in (headers, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    if not out.is_terminal:
        for line in lines:
            padded = (set_cell_size(cell, width) for cell, width in zip(line, widths, strict=True))
            out.print("  ".join(padded).rstrip(), markup=False)
        return
    table = Table(box=None, pad_edge=False)
    for place, header in enumerate(lines[0]):
        table.add_column(header, overflow="fold", width=None if place else min(widths[0], out.width // 2))
    for line in lines[1:]:
        table.add_row(*map(Text, line))
    out.print(table, soft_wrap=False)
