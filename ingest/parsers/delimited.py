"""CSV and TSV as a Markdown table, row by row, so that memory does not grow with the file."""

import csv
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from ingest.documents import Metadata
from ingest.parsers.encodings import find_encoding
from ingest.parsers.output import TextOutput
from ingest.parsers.reading import Source
from ingest.parsers.text_types import TSV

SAMPLE_ROWS = 50
MAX_FIELD_CHARACTERS = 16 * 1024 * 1024
DELIMITERS = ",;\t|"


def read(source: Source, output: TextOutput) -> Metadata:
    """The first row is the header."""
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    encoding = find_encoding(source.path)
    with source.path.open(
        encoding="utf-8-sig" if encoding == "utf-8" else encoding, errors="replace", newline=""
    ) as file:
        sample = list(islice(file, SAMPLE_ROWS))
        delimiter = "\t" if source.media_type == TSV else find_delimiter(sample)
        rows = csv.reader(_without_zeros(chain(sample, file)), delimiter=delimiter)
        write_table(rows, output)
    return {}


def find_delimiter(sample: Iterable[str]) -> str:
    """The one that splits most rows into the same number of fields, more than one; a comma when none does."""
    lines = list(sample)

    def agreement(delimiter: str) -> tuple[int, int]:
        counts = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        common = max(set(counts), key=counts.count, default=0)
        return (counts.count(common), common) if common > 1 else (0, 0)

    return max(DELIMITERS, key=agreement)


def write_table(rows: Iterable[list[str]], output: TextOutput) -> None:
    """Rows as Markdown; the first is the header, and tells how many columns there are at least."""
    number = 0
    for row in rows:
        if any(cell.strip() for cell in row):
            output.write(markdown_row(row))
            if number == 0:
                output.write("|" + " --- |" * len(row) + "\n")
            number += 1


def markdown_row(row: Iterable[str]) -> str:
    """A row, each cell on one line."""
    cells = (" ".join(cell.split()).replace("|", "\\|") for cell in row)
    return "| " + " | ".join(cells) + " |\n"


def _without_zeros(lines: Iterable[str]) -> Iterator[str]:
    return (line.replace("\0", "") for line in lines)
