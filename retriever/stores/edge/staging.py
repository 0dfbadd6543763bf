"""Chunks that wait to be published, in a SQLite file beside the shard, out of every search's way.

Were they in the shard, each search would need a filter, and the filter costs more than the search. The file also holds the
intent to publish, so that a crash in the middle is finished when the index is opened again.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retriever.chunks import DocumentVersion
from retriever.stores.base import OfDocuments, OfIds, Selection
from retriever.stores.edge.operations import Row

_SCHEMA = """
CREATE TABLE IF NOT EXISTS staged (
    id TEXT PRIMARY KEY, document TEXT NOT NULL, version TEXT NOT NULL,
    payload TEXT NOT NULL, dense BLOB NOT NULL, words BLOB NOT NULL, weights BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS staged_of_version ON staged (document, version);
CREATE TABLE IF NOT EXISTS publishing (document TEXT PRIMARY KEY, version TEXT NOT NULL);
"""


class Staging:
    """One index's staged chunks. Each change is durable and whole when its method returns."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(_SCHEMA)

    def put(self, rows: Iterable[Row]) -> None:
        """Adds or replaces by id; all or none."""
        with self._transaction():
            self._database.executemany("INSERT OR REPLACE INTO staged VALUES (?, ?, ?, ?, ?, ?, ?)", map(_stored, rows))

    def slices(self, versions: Sequence[DocumentVersion], size: int) -> Iterator[list[Row]]:
        """The staged chunks of these versions, at most `size` at a time."""
        for start in range(0, len(keys := self._keys(versions)), size):
            part = keys[start : start + size]
            marks = ",".join("?" * len(part))
            rows = self._database.execute(f"SELECT * FROM staged WHERE id IN ({marks})", part)  # noqa: S608 - only marks
            yield [_row(*row) for row in rows]

    def intend(self, versions: Sequence[DocumentVersion]) -> None:
        """Remembers that these versions are to be published."""
        pairs = [(version.document, version.version) for version in versions]
        with self._transaction():
            self._database.executemany("INSERT OR REPLACE INTO publishing VALUES (?, ?)", pairs)

    def intended(self) -> list[DocumentVersion]:
        """Versions whose publishing has not finished."""
        return [DocumentVersion(*row) for row in self._database.execute("SELECT document, version FROM publishing")]

    def finish(self, versions: Sequence[DocumentVersion]) -> None:
        """They are live: forgets their chunks, and the intent."""
        pairs = [(version.document, version.version) for version in versions]
        with self._transaction():
            self._database.executemany("DELETE FROM staged WHERE document = ? AND version = ?", pairs)
            self._database.executemany("DELETE FROM publishing WHERE document = ? AND version = ?", pairs)

    def delete(self, selection: Selection) -> int:
        """Removes what is selected; returns how many there were."""
        match selection:
            case OfDocuments(documents):
                where, values = "document = ?", [(document,) for document in documents]
            case OfIds(ids):
                where, values = "id = ?", [(chunk_id,) for chunk_id in ids]
            case DocumentVersion(document, version):
                where, values = "document = ? AND version = ?", [(document, version)]
        with self._transaction():
            return self._database.executemany(f"DELETE FROM staged WHERE {where}", values).rowcount  # noqa: S608

    def vectors(self, ids: Sequence[str]) -> list[tuple[str, dict[str, Any], list[float]]]:
        """Those of these chunks that are staged: id, payload, dense vector."""
        found: list[tuple[str, dict[str, Any], list[float]]] = []
        for chunk_id in ids:
            rows = self._database.execute("SELECT payload, dense FROM staged WHERE id = ?", (chunk_id,))
            found += [
                (chunk_id, json.loads(payload), np.frombuffer(dense, np.float32).tolist()) for payload, dense in rows
            ]
        return found

    def page(self, after: str, documents: Sequence[str], size: int) -> tuple[list[Row], str]:
        """Staged chunks by id, from `after` on, and the first of the next page."""
        marks = ",".join("?" * len(documents))
        chosen = f" AND document IN ({marks})" if documents else ""
        question = f"SELECT * FROM staged WHERE id >= ?{chosen} ORDER BY id LIMIT ?"  # noqa: S608 - only marks
        found = self._database.execute(question, (after, *documents, size + 1)).fetchall()
        return [_row(*row) for row in found[:size]], found[size][0] if len(found) > size else ""

    def versions(self) -> dict[DocumentVersion, int]:
        """How many chunks each version has."""
        rows = self._database.execute("SELECT document, version, count(*) FROM staged GROUP BY document, version")
        return {DocumentVersion(document, version): count for document, version, count in rows}

    def has(self, version: DocumentVersion) -> bool:
        """Whether any chunk of it is staged."""
        question = "SELECT 1 FROM staged WHERE document = ? AND version = ? LIMIT 1"
        return self._database.execute(question, (version.document, version.version)).fetchone() is not None

    def count(self) -> int:
        """All staged chunks."""
        return self._database.execute("SELECT count(*) FROM staged").fetchone()[0]

    def close(self) -> None:
        """Lets go of the file."""
        self._database.close()

    def _keys(self, versions: Sequence[DocumentVersion]) -> list[str]:
        question = "SELECT id FROM staged WHERE document = ? AND version = ?"
        return [row[0] for v in versions for row in self._database.execute(question, (v.document, v.version))]

    def _transaction(self) -> sqlite3.Connection:
        """Commits at the end of a `with`, or takes everything back."""
        self._database.execute("BEGIN IMMEDIATE")
        return self._database


def _stored(row: Row) -> tuple[str, str, str, str, bytes, bytes, bytes]:
    point_id, payload, dense, words, weights = row
    return (
        point_id,
        payload["document"],
        payload["version"],
        json.dumps(payload, ensure_ascii=False),
        dense,
        np.asarray(words, np.uint32).tobytes(),
        np.asarray(weights, np.float32).tobytes(),
    )


def _row(chunk_id: str, _document: str, _version: str, payload: str, dense: bytes, words: bytes, weights: bytes) -> Row:
    stored = np.frombuffer(words, np.uint32), np.frombuffer(weights, np.float32)
    return chunk_id, json.loads(payload), dense, stored[0].tolist(), stored[1].tolist()
