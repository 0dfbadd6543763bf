"""Metadata as people give it: on the command line, in a CSV of many files, in a JSON file beside a file.

The more particular wins: a file's own JSON over the CSV, the CSV over the command line. Times become RFC 3339 text.
"""

import csv
import errno
import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from ingest.documents import Metadata, MetadataValue, checked_metadata
from ingest.origins.folders import SIDECAR
from ingest.sources import Source
from mesh.errors import InvalidInput

MAX_SIDECAR_BYTES = 256 * 1024
NAME_COLUMNS = ("document", "path", "file", "name")


@dataclass
class Labels:
    """What is to be kept with each document. `unused` names the rows of the CSV that no file has had yet."""

    for_all: Metadata
    by_name: dict[str, Metadata] = field(default_factory=dict)
    unused: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, pairs: Sequence[str], table: Path | None) -> "Labels":
        """From `KEY=VALUE` pairs and a CSV. InvalidInput says what is wrong with which."""
        by_name = _read_table(table) if table else {}
        return cls(checked_metadata(_from_pairs(pairs)), by_name, set(by_name))

    def put_on(self, sources: Iterable[Source], prefix: str) -> list[Source]:
        """The sources with their metadata; one whose own JSON cannot be used has a problem."""
        return [self._put_on(source, prefix) for source in sources]

    def _put_on(self, source: Source, prefix: str) -> Source:
        if source.problem:
            return source
        names = (source.display_name, source.display_name.removeprefix(prefix))
        row = next((name for name in names if name in self.by_name), None)
        self.unused -= {row}
        try:
            metadata = {**self.for_all, **(self.by_name[row] if row else {}), **_from_sidecar(source)}
            return replace(source, metadata=checked_metadata(metadata))
        except InvalidInput as error:
            return replace(source, problem=error.message)


def typed(text: str) -> MetadataValue:
    """A value as it is written: 2024, 1.5, true, 2024-05-01, ["a", "b"]; everything else, and what is quoted, is text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # a number of thousands of digits is a ValueError too
        return as_time(text) or text
    return text if value is None or isinstance(value, dict) else value


def as_time(text: str) -> str | None:
    """RFC 3339 text of a date, which begins at midnight UTC, or of a time; None for anything else."""
    if len(text) < 10 or text[4:5] != "-" or text[7:8] != "-":
        return None
    try:
        if len(text) == 10:
            return f"{date.fromisoformat(text).isoformat()}T00:00:00Z"
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return time.isoformat().replace("+00:00", "Z")


def _from_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """A key that comes again makes a list."""
    values: dict[str, list[MetadataValue]] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise InvalidInput(f"--meta {pair!r} is not of the form KEY=VALUE.")
        values.setdefault(key, []).append(typed(text))
    return {key: _together(key, found) for key, found in values.items()}


def _together(key: str, values: list[MetadataValue]) -> Any:
    if len(values) == 1:
        return values[0]
    if any(isinstance(value, list | bool) for value in values):
        raise InvalidInput(f"--meta {key} comes {len(values)} times; only strings, numbers and dates can make a list.")
    return values if len({isinstance(value, str) for value in values}) == 1 else [str(value) for value in values]


def _read_table(path: Path) -> dict[str, Metadata]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _rows(path, csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidInput(f"{path} cannot be read as CSV in UTF-8: {reason}") from error


def _rows(path: Path, reader: "csv.DictReader[str]") -> dict[str, Metadata]:
    column = next((name for name in reader.fieldnames or () if name.lower() in NAME_COLUMNS), None)
    if column is None:
        raise InvalidInput(f"{path} has no column that names the file: call one of its columns path.")
    found: dict[str, Metadata] = {}
    for row in reader:
        if None in row:
            raise InvalidInput(f"{path}, line {reader.line_num}: the row has more fields than the header.")
        name = unicodedata.normalize("NFC", (row.pop(column) or "").removeprefix("./"))
        if not name or name in found:
            problem = f"{name} comes twice" if name else f"the column {column} is empty"
            raise InvalidInput(f"{path}, line {reader.line_num}: {problem}.")
        try:
            found[name] = checked_metadata({key: typed(text) for key, text in row.items() if text})
        except InvalidInput as error:
            raise InvalidInput(f"{path}, line {reader.line_num}: {error.message}") from error
    return found


def _from_sidecar(source: Source) -> dict[str, Any]:
    path = Path(source.path + SIDECAR)
    try:
        if "://" in source.path or not path.is_file():
            return {}
        if path.stat().st_size > MAX_SIDECAR_BYTES:
            raise InvalidInput(f"{path.name} has more than {MAX_SIDECAR_BYTES} bytes.")
        values = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # as long as the file's own name is, none can be beside it
            return {}
        raise InvalidInput(f"{path.name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path.name} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise InvalidInput(f"{path.name} must hold one JSON object with the metadata's keys.")
    return {key: _timed(value) for key, value in values.items() if value is not None}


def _timed(value: Any) -> Any:
    if isinstance(value, list):
        return [_timed(item) for item in value]
    return (as_time(value) or value) if isinstance(value, str) else value
