"""Tables in Markdown text: where they stand, and how a large one is cut by rows."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAX_HEADER_CHARACTERS = 1_000
TITLE_ROWS = 4
"""A sheet's title, its units and empty lines may stand above the row that names the columns."""

_HEAD = re.compile(r"^(?P<header>\|[^\n]*\|[ \t]*)\n\|(?:[ \t]*:?-{3,}:?[ \t]*\|)+[ \t]*(?:\n|\Z)", re.MULTILINE)
_ROWS = re.compile(r"(?:\|[^\n]*(?:\n|\Z))*")


@dataclass(frozen=True)
class Table:
    """A table at `text[start:end]`, whose rows begin at `body`; its number in the document and what names its columns.

    One that goes on from the block before has no header of its own: `start` equals `body`.
    """

    start: int
    body: int
    end: int
    number: int
    header: str


class Tables:
    """The tables of a text, block after block."""

    def __init__(self) -> None:
        self._open: Table | None = None
        self._count = 0

    def find(self, block: str) -> list[Table]:
        """The tables of the next block, in order."""
        tables: list[Table] = []
        at = 0
        if self._open is not None and block.startswith("|"):
            rows = _ROWS.match(block)
            end = rows.end() if rows else 0
            tables.append(Table(0, 0, end, self._open.number, self._open.header))
            at = end
        for head in _HEAD.finditer(block, at):
            if head.start() < at:  # a second header among the rows
                continue
            rows = _ROWS.match(block, head.end())
            self._count += 1
            at = end = rows.end() if rows else head.end()
            tables.append(
                Table(head.start(), head.end(), end, self._count, _header(head["header"], block[head.end() : end]))
            )
        self._open = tables[-1] if tables and tables[-1].end == len(block) else None
        return tables


def _header(first: str, rows: str) -> str:
    """The line of the header; where it is only a title, the first line of several cells too, which names the columns."""
    lines = [first, *rows.split("\n", TITLE_ROWS)[:TITLE_ROWS]]
    named = next((at for at, line in enumerate(lines) if _filled(line) > 1), 0)
    return "\n".join(line.strip() for line in dict.fromkeys((lines[0], lines[named])))[:MAX_HEADER_CHARACTERS]


def _filled(row: str) -> int:
    return sum(bool(cell.strip()) for cell in row.split("|"))


def row_spans(text: str, start: int, end: int, weigh: Callable[[str], int], limit: int) -> Iterator[tuple[int, int]]:
    """Cuts lines into spans that weigh at most `limit`, as long as no single line weighs more."""
    left, at, weight = start, start, 0
    while at < end:
        stop = text.find("\n", at, end) + 1 or end
        line = weigh(text[at:stop])
        if at > left and weight + line > limit:
            yield left, at
            left, weight = at, 0
        weight += line
        at = stop
    if at > left:
        yield left, at
