"""The file in which a worker hands over the chunks that it cut."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROW = np.dtype(
    [("document", "<i4"), ("heading", "<i4"), ("page", "<i4"), ("start", "<i8"), ("end", "<i8"), ("byte_start", "<i8"),
     ("byte_end", "<i8")]
)  # fmt: skip
"""A chunk: which text of the task, which heading path, the page it begins on, its place in characters and in bytes."""

Rows = npt.NDArray[Any]


def write_rows(path: Path, parts: list[Rows], headings: list[list[str]]) -> None:
    """All chunks of a task, text after text."""
    rows = np.concatenate(parts) if parts else np.zeros(0, ROW)
    with path.open("wb") as file:
        np.savez(file, rows=rows, headings=np.frombuffer(json.dumps(headings).encode(), np.uint8))


def read_rows(path: Path) -> tuple[Rows, list[list[str]]]:
    """The rows and the heading paths that they name."""
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["rows"], json.loads(arrays["headings"].tobytes())
