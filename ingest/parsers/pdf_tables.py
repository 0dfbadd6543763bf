"""Tables of a PDF page, found by how its words are aligned, and put into the page's text as Markdown.

A page has no tables, only words at places: lines whose words leave wide gaps at the same places are one. What is found is
put in only where the page's text has the same words in the same order, so that nothing is lost or doubled. Columns of prose,
tables of contents and forms are left as they are.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from ingest.parsers.delimited import markdown_row
from ingest.parsers.pdf_layout import Word

GAP_HEIGHTS = 1.0
"""A gap wider than the words are high parts two cells; between words it is a quarter to half of that."""
MIN_ROWS = 3
MAX_LABELS = 2
"""Lines of one cell that may stand between rows, such as the name of a group of rows."""
MAX_COLUMNS = 24
MAX_CELL_CHARACTERS = 28
"""Cells beyond the first column that mostly are longer are prose."""

_NUMBER = re.compile(r"[(\-–—$€£¥]*\s*\d[\d,. ]*[%)]*|[—–-]|N/?A|n/a")
_FIGURE = re.compile(r"[(\-–$€£]*\d[\d,.]*[%)]*")
_YEAR = re.compile(r"(?:19|20)\d\d")
_NAMED = re.compile(r"^\s*(?:Table|TABLE|Tabelle|Tableau|Tabla)\s+\w", re.MULTILINE)
_JOINED_LEFT = ("$", "€", "£", "(", "($", "¥")
_JOINED_RIGHT = (")", "%", ")%", "*")


@dataclass(frozen=True, slots=True)
class Cell:
    """Words that stand together."""

    text: str
    left: float
    right: float


Line = list[Cell]


def may_have_table(text: str) -> bool:
    """Whether a page's text looks like it: several lines of several numbers, or a table that is named as one."""
    return sum(map(_ends_with_figures, text.split("\n"))) >= MIN_ROWS or _NAMED.search(text) is not None


def with_tables(text: str, words: Sequence[Word]) -> str:
    """The text of a page with its tables as Markdown."""
    for rows in _runs([_cells(line) for line in _lines(words)]):
        rows = _below_caption(rows)
        table = _markdown(rows)
        place = _find(text, rows) if table else None
        if table and place:
            text = f"{text[: place[0]].rstrip()}\n\n{table}\n{text[place[1] :].lstrip()}"
    return text


def _ends_with_figures(line: str) -> bool:
    """Whether its last word is a number, and another one of its words too."""
    words = line.split()
    return bool(words and _FIGURE.fullmatch(words[-1])) and any(_FIGURE.fullmatch(word) for word in words[:-1])


def _lines(words: Sequence[Word]) -> Iterator[list[Word]]:
    """Words of about the same height on the page, from left to right."""
    line: list[Word] = []
    for word in sorted(words, key=lambda word: word.top):
        if line and word.top - line[0].top > 0.5 * min(line[0].height, word.height):
            yield sorted(line, key=lambda word: word.left)
            line = []
        line.append(word)
    if line:
        yield sorted(line, key=lambda word: word.left)


def _cells(line: list[Word]) -> Line:
    cells: Line = []
    for word in line:
        if cells:
            last = cells[-1]
            near = word.left - last.right <= GAP_HEIGHTS * word.height
            if near or last.text in _JOINED_LEFT or word.text in _JOINED_RIGHT:
                cells[-1] = Cell(f"{last.text} {word.text}", last.left, word.right)
                continue
        cells.append(Cell(word.text, word.left, word.right))
    return cells


def _runs(lines: list[Line]) -> Iterator[list[Line]]:
    """Neighbouring lines of several cells each, with lines of one cell between them."""
    run: list[Line] = []
    labels: list[Line] = []
    for line in [*lines, []]:
        if len(line) > 1:
            run += [*labels, line] if run else [line]
            labels = []
        elif line and run and len(labels) < MAX_LABELS:
            labels.append(line)
        else:
            if sum(len(row) > 1 for row in run) >= MIN_ROWS:
                yield run
            run, labels = [], []


def _markdown(rows: list[Line]) -> str:
    """The table; empty when these lines are none."""
    columns = _columns(rows)
    if not 2 <= len(columns) <= MAX_COLUMNS or not _is_table(rows, columns):
        return ""
    grid = [_placed(row, columns) for row in rows]
    body = next((at for at, row in enumerate(grid) if any(_is_number(cell) for cell in row[1:])), 1)
    body = max(1, body if body < len(grid) else 1)
    header = [" ".join(cell for cell in column if cell) for column in zip(*grid[:body], strict=True)]
    lines = [markdown_row(header), "|" + " --- |" * len(columns) + "\n", *map(markdown_row, grid[body:])]
    return "".join(lines)


def _below_caption(rows: list[Line]) -> list[Line]:
    """Without what stands above a line such as `Table 1: Results`, and without that line."""
    captions = [at for at, row in enumerate(rows) if len(row) == 1 and _NAMED.match(row[0].text)]
    return rows[captions[0] + 1 :] if captions else rows


def _is_number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell)) and any(map(str.isdigit, cell)) and not _YEAR.fullmatch(cell)


def _columns(rows: list[Line]) -> list[tuple[float, float]]:
    """Where columns stand: the cells of the rows with most cells, put together where they overlap."""
    most = sorted(len(row) for row in rows if len(row) > 1) or [0]
    usual = most[int(len(most) * 0.6)]
    spans = sorted((cell.left, cell.right) for row in rows if len(row) >= usual for cell in row)
    columns: list[tuple[float, float]] = []
    for left, right in spans:
        if columns and left < columns[-1][1]:
            columns[-1] = (columns[-1][0], max(columns[-1][1], right))
        else:
            columns.append((left, right))
    return columns


def _placed(row: Line, columns: list[tuple[float, float]]) -> list[str]:
    """The cells of a row by column; one that spans several stands in the first of them."""
    placed = [""] * len(columns)
    for cell in row:
        overlaps = [min(cell.right, right) - max(cell.left, left) for left, right in columns]
        best = next((at for at, overlap in enumerate(overlaps) if overlap > 0), overlaps.index(max(overlaps)))
        placed[best] = f"{placed[best]} {cell.text}".strip()
    return placed


def _is_table(rows: list[Line], columns: list[tuple[float, float]]) -> bool:
    grid = [_placed(row, columns) for row in rows if len(row) > 1]
    further = [cell for row in grid for cell in row[1:] if cell]
    if not further or any(". . ." in cell or "...." in cell for row in grid for cell in row):
        return False
    numbers = sum(bool(_NUMBER.fullmatch(cell)) for cell in further) / len(further)
    short = median(len(cell) for cell in further) <= MAX_CELL_CHARACTERS
    filled = sum(bool(cell) for row in grid for cell in row) / (len(grid) * len(columns))
    return short and (numbers >= 0.3 or (len(columns) >= 3 and filled >= 0.6))


def _find(text: str, rows: list[Line]) -> tuple[int, int] | None:
    """The whole lines of the text that have exactly these words, white space aside."""
    places = [at for at, character in enumerate(text) if not character.isspace()]
    packed = "".join(text[at] for at in places)
    wanted = "".join("".join(cell.text.split()) for row in rows for cell in row)
    at = packed.find(wanted)
    if at < 0:
        return None
    start, end = places[at], places[at + len(wanted) - 1] + 1
    begins = not text[:start].rpartition("\n")[2].strip()
    ends = not text[end:].partition("\n")[0].strip()
    return (start, end) if begins and ends else None
