"""Leaves out texts in which a question or answer of an evaluation set stands: a model that was trained on them would be
measured on what it remembers. By runs of words, as GPT-3's authors did (Brown et al. 2020, appendix C).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter
from numpy.typing import NDArray

from mesh.errors import InvalidInput
from training.prepare.ngrams import hashed, normal_words
from training.prepare.samples import Samples

RUN_WORDS = 8
"""GPT-3's least; a shorter question or answer could stand anywhere, and is only told."""
_FILES = {"queries.jsonl": ("text",), "answers.jsonl": ("answers",)}
_INSTRUCTIONS = ("instruction", "input", "output")


@dataclass(frozen=True)
class Index:
    """Runs of words of the evaluation sets. `texts` were read, of which `short` are too short to be looked for."""

    path: Path
    texts: int
    short: int
    runs: int


class Decontaminate(BaseFilter):
    """Drops a document that holds any run of the index."""

    name = "decontamination"

    def __init__(self, index: Path, samples: Samples) -> None:
        super().__init__(samples)  # pyright: ignore[reportArgumentType]
        self.index = index

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        known = _load(self.index)
        runs = hashed(normal_words(doc.text), RUN_WORDS)
        if not len(known) or not len(runs):
            return True
        places = np.searchsorted(known, runs)
        found = known[np.minimum(places, len(known) - 1)] == runs
        return (False, "in an evaluation set") if found.any() else True


def build(sets: Sequence[Path], path: Path) -> Index:
    """Indexes evaluation sets: folders in BEIR's form (questions and answers; the documents are what is searched, and may be
    trained on), or JSON lines of instructions. InvalidInput for what is neither.
    """
    texts, short = 0, 0
    runs: list[NDArray[np.uint64]] = []
    for place in sets:
        for text in _texts(place):
            found = hashed(normal_words(text), RUN_WORDS)
            texts, short = texts + 1, short + (len(found) == 0)
            runs.append(found)
    known = np.unique(np.concatenate(runs)) if runs else np.empty(0, dtype=np.uint64)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, known)
    return Index(path, texts, short, len(known))


def check(sets: Sequence[Path]) -> None:
    """InvalidInput for a set that cannot be read."""
    for place in sets:
        if not any(True for _ in _texts(place)):
            raise InvalidInput(f"{place} holds no questions, answers or instructions.")


def _texts(place: Path) -> Iterator[str]:
    if place.is_dir():
        files = [(place / name, keys) for name, keys in _FILES.items() if (place / name).is_file()]
        if not files:
            raise InvalidInput(f"{place} is no evaluation set in BEIR's form: it holds no queries.jsonl.")
    elif place.is_file():
        files = [(place, _INSTRUCTIONS)]
    else:
        raise InvalidInput(f"There is no evaluation set at {place}.")
    for path, keys in files:
        yield from _of_file(path, keys)


def _of_file(path: Path, keys: Sequence[str]) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                value = json.loads(line)
                values = [value.get(key) for key in keys]
            except (ValueError, AttributeError) as error:
                raise InvalidInput(f"{path}, line {number}: not a JSON object.") from error
            for each in values:
                yield from (
                    text for text in (each if isinstance(each, list) else [each]) if isinstance(text, str) and text
                )


@cache
def _load(path: Path) -> NDArray[np.uint64]:
    """Held in memory once a process: 8 bytes a run."""
    return np.load(path, mmap_mode="r")
