"""Runs as they are stored: a folder each, with a header and one line a question. A run broken off goes on where it ended.

DATA/evaluations/RUN/header.json      what was evaluated, with which versions and settings, and its figures
DATA/evaluations/RUN/records.jsonl    one question a line, in the order in which they were done
DATA/evaluations/RUN/report.html      the report, once it is finished
"""

import fcntl
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Self

from mesh.errors import Corrupt, FailedPrecondition, InvalidInput, NotFound
from orchestrator.evaluation.records import Kind, Record

FORMAT = 1
_UNSAFE = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Header:
    """What a run is of. `versions` are those of the index, and for answers of prompt and model; times are ISO 8601, UTC."""

    kind: Kind
    set_name: str
    set_path: str
    set_fingerprint: str
    questions: int
    collection: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    id: str = ""
    murphey: str = field(default_factory=lambda: version("murphey"))
    started: str = ""
    finished: str = ""
    figures: Mapping[str, float | None] = field(default_factory=dict)
    curves: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    format: int = FORMAT

    def continues(self, other: "Header") -> bool:
        """Whether this run, broken off, is the same measurement as another: what is known of both agrees."""
        same = ("kind", "set_fingerprint", "questions", "collection", "settings", "murphey")
        return all(getattr(self, name) == getattr(other, name) for name in same) and all(
            self.versions.get(name, known) == known for name, known in other.versions.items()
        )


@dataclass(frozen=True)
class StoredRun:
    """A run that was read."""

    header: Header
    records: tuple[Record, ...]
    folder: Path

    def scores(self, name: str) -> dict[str, float | None]:
        """One score by query."""
        return {record.query: record.scores.get(name) for record in self.records}


class OpenRun:
    """A run that records are added to. Use it as a context manager; leaving it early keeps what it has."""

    def __init__(self, folder: Path, header: Header, file: IO[bytes], records: list[Record]) -> None:
        self.folder, self.header, self.records = folder, header, records
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, record: Record, versions: Mapping[str, str]) -> None:
        """Keeps a record. FailedPrecondition when the mesh is no longer the one that the run began with."""
        known = dict(self.header.versions)
        for name, now in versions.items():
            if now and known.setdefault(name, now) != now:
                raise FailedPrecondition(
                    f"The {name} changed from {known[name]} to {now} since the run {self.header.id} began. "
                    "Run the evaluation again with --fresh."
                )
        if known != self.header.versions:
            self.header = replace(self.header, versions=known)
            _write_header(self.folder, self.header)
        self._file.write(json.dumps(record.as_json(), ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        self.records.append(record)

    def finish(self, figures: Mapping[str, float | None], curves: Mapping[str, Any]) -> StoredRun:
        """Marks the run as whole."""
        self.header = replace(self.header, figures=figures, curves=curves, finished=_now())
        _write_header(self.folder, self.header)
        return StoredRun(self.header, tuple(self.records), self.folder)


class RunStore:
    """The runs of a data folder."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "evaluations"

    def open(self, header: Header, *, fresh: bool) -> OpenRun:
        """A new run, or, unless `fresh`, the newest one of the same measurement that was broken off."""
        for earlier in [] if fresh else self.headers():
            if not earlier.finished and earlier.continues(header) and (run := self._resumed(earlier)) is not None:
                return run
        return self._created(header)

    def headers(self) -> list[Header]:
        """All runs, the newest first. Corrupt for a header that cannot be read."""
        found = [_read_header(path) for path in self._folder.glob("*/header.json")]
        return sorted(found, key=lambda header: (header.started, header.id), reverse=True)

    def load(self, name: str) -> StoredRun:
        """A run by its id, by the only id that begins so, or the `latest`. NotFound, or InvalidInput for several."""
        fitting = [header for header in self.headers() if header.id.startswith(name)]
        exact = [header for header in fitting if header.id == name]
        chosen = self.headers()[:1] if name == "latest" else exact or fitting
        if not chosen:
            raise NotFound(f"There is no run {name!r} in {self._folder}. See `murphey eval list`.")
        if len(chosen) > 1:
            raise InvalidInput(f"{len(chosen)} runs begin with {name!r}: {', '.join(each.id for each in chosen[:5])}.")
        folder = self._folder / chosen[0].id
        with (folder / "records.jsonl").open("rb") as file:
            return StoredRun(chosen[0], tuple(_read_records(file)), folder)

    def _created(self, header: Header) -> OpenRun:
        started = _now()
        stem = f"{header.kind}-{slug(header.set_name)}-{re.sub('[-:]', '', started)}"
        number, folder = 1, self._folder / stem
        while not _made(folder):
            number += 1
            folder = self._folder / f"{stem}-{number}"
        header = replace(header, id=folder.name, started=started)
        file = (folder / "records.jsonl").open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        _write_header(folder, header)
        return OpenRun(folder, header, file, [])

    def _resumed(self, header: Header) -> OpenRun | None:
        """None while another command works on the run. A line that was cut off is removed."""
        folder = self._folder / header.id
        file = (folder / "records.jsonl").open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        file.seek(0)
        records = _read_records(file)
        file.truncate(file.tell())
        file.seek(0, os.SEEK_END)
        return OpenRun(folder, header, file, records)


def slug(name: str) -> str:
    """A name as lower-case letters, digits and hyphens, at most 30 of them."""
    return _UNSAFE.sub("-", name.lower()).strip("-")[:30].strip("-") or "set"


def _read_records(file: IO[bytes]) -> list[Record]:
    """The whole lines; the file is left at their end. Corrupt for one that is none of ours."""
    records: list[Record] = []
    end = 0
    for line in iter(file.readline, b""):
        if not line.endswith(b"\n"):
            break
        try:
            records.append(Record(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise Corrupt(f"{file.name}, line {len(records) + 1}, is damaged. Remove the run's folder.") from error
        end = file.tell()
    file.seek(end)
    return records


def _read_header(path: Path) -> Header:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Header(**(values | {"kind": Kind(values["kind"]), "notes": tuple(values["notes"])}))
    except (ValueError, TypeError, KeyError) as error:
        raise Corrupt(f"{path} is damaged or of another version of Murphey. Remove the run's folder.") from error


def _write_header(folder: Path, header: Header) -> None:
    """Whole or not at all."""
    scratch = folder / "header.json.new"
    scratch.write_text(json.dumps(asdict(header), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    scratch.replace(folder / "header.json")


def _made(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
