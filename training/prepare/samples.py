"""A few of the documents that each step drops, for people to look at; stands where datatrove takes a writer of them."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from datatrove.data import Document

BY_REASON = 3
"""Of each task."""
SHOWN_CHARACTERS = 400


class Samples:
    """Keeps the first of every reason; each task has a file of its own."""

    def __init__(self, folder: Path, step: str) -> None:
        self.folder, self.step = folder, step
        self.kept: dict[str, list[dict[str, str]]] = {}
        self.rank = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.kept:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{self.step.replace(' ', '-')}-{self.rank:05d}.json"
            path.write_text(json.dumps({"step": self.step, "kept": self.kept}))

    def write(self, document: Document, rank: int = 0, **_: Any) -> None:
        """A document was dropped."""
        self.rank = rank
        kept = self.kept.setdefault(str(document.metadata.get("filter_reason", self.step)), [])
        if len(kept) < BY_REASON:
            source = str(document.metadata.get("source", ""))
            kept.append({"id": document.id, "source": source, "text": document.text[:SHOWN_CHARACTERS]})


def read(folder: Path) -> dict[str, dict[str, list[dict[str, str]]]]:
    """By step and reason, the same ones whatever finished first."""
    found: dict[str, dict[str, list[dict[str, str]]]] = {}
    for path in sorted(folder.glob("*.json")):
        told = json.loads(path.read_text())
        for reason, kept in told["kept"].items():
            shown = found.setdefault(told["step"], {}).setdefault(reason, [])
            shown += kept[: BY_REASON - len(shown)]
    return found
