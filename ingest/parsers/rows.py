"""The file in which a worker hands over the chunks that it cut."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ingest.places import Place

ROW = np.dtype(
    [("document", "<i4"), ("heading", "<i4"), ("page", "<i4"), ("start", "<i8"), ("end", "<i8"), ("byte_start", "<i8"),
     ("byte_end", "<i8"), ("context", "<i4"), ("table", "<i4")]
)  # fmt: skip
"""A chunk: which text of the task, which heading path, the page it begins on, its place in characters and in bytes, which
context, and which table of the document, 0 for none."""

Rows = npt.NDArray[Any]


@dataclass(frozen=True)
class Context:
    """What many chunks have in common beside headings: the place they begin in, and the header of the table they go on with."""

    place: Place
    table_header: str

    def to_json(self) -> list[Any]:
        """As `from_json` reads it."""
        return [self.place.to_json(), self.table_header]

    @classmethod
    def from_json(cls, value: list[Any]) -> "Context":
        """What `to_json` made."""
        return cls(Place(**value[0]), value[1])


@dataclass(frozen=True)
class CutRows:
    """Chunks as rows, and the heading paths and contexts that they name by number."""

    rows: Rows
    headings: list[list[str]]
    contexts: list[Context]


def write_rows(path: Path, parts: list[Rows], headings: list[list[str]], contexts: list[Context]) -> None:
    """All chunks of a task, text after text."""
    rows = np.concatenate(parts) if parts else np.zeros(0, ROW)
    described = json.dumps([headings, [context.to_json() for context in contexts]])
    with path.open("wb") as file:
        np.savez(file, rows=rows, described=np.frombuffer(described.encode(), np.uint8))


def read_rows(path: Path) -> CutRows:
    """What `write_rows` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        headings, contexts = json.loads(arrays["described"].tobytes())
        return CutRows(arrays["rows"], headings, [Context.from_json(context) for context in contexts])
