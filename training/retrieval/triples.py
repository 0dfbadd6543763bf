"""Questions with a passage that answers and passages that only look like it, mined from the live index.

The negatives are what the mesh itself ranks high: passages of documents that nobody judged relevant. The best few are passed
over, as an unjudged document at the top is often relevant after all (Qu et al. 2021, "false negatives").
"""

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.errors import InvalidInput, NotFound
from orchestrator.evaluation.clients.searches import Finds
from orchestrator.evaluation.sets import EvaluationSet, Question


@dataclass(frozen=True)
class Triple:
    """A question, a passage that answers it, and passages that do not."""

    question: str
    positive: str
    negatives: tuple[str, ...]


async def mined(
    data: EvaluationSet, questions: Sequence[Question], searches: Finds, negatives: int = 4, passed_over: int = 2
) -> AsyncIterator[Triple]:
    """A triple for each judged question for which the index has a relevant passage and enough others."""
    if data.corpus is None:
        raise InvalidInput("The set has no corpus.jsonl: nothing tells which passages are relevant.")
    names = {document.id: document.file_name for document in data.corpus.documents()}
    for question in questions:
        relevant = {names[id_] for id_, grade in question.relevant.items() if grade >= 1 and id_ in names}
        if not relevant:
            continue
        found = (await searches.search(question.text)).passages
        positives = [each.chunk.text for each in found if each.chunk.display_name in relevant]
        others = [each.chunk.text for each in found if each.chunk.display_name not in relevant][passed_over:]
        if positives and len(others) >= negatives:
            yield Triple(question.text, positives[0], tuple(others[:negatives]))


def write_triples(file: Path, triples: Iterable[Triple]) -> int:
    """JSON lines; returns how many."""
    rows = [
        {"question": each.question, "positive": each.positive, "negatives": list(each.negatives)} for each in triples
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return len(rows)


def read_triples(file: Path) -> list[Triple]:
    """NotFound for no file, InvalidInput for a line of another form, or no line."""
    if not file.is_file():
        raise NotFound(f"{file} does not exist; `murphey train triples` makes it.")
    found: list[Triple] = []
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        found.append(_triple(line, f"{file}, line {number}"))
    if not found:
        raise InvalidInput(f"{file} holds no triples: there is nothing to train on.")
    return found


def _triple(line: bytes, where: str) -> Triple:
    try:
        row: dict[str, Any] = json.loads(line)
        question, positive, negatives = row["question"], row["positive"], row["negatives"]
        if not negatives or not all(isinstance(each, str) and each for each in (question, positive, *negatives)):
            raise TypeError
        return Triple(question, positive, tuple(negatives))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{where}: not a question, a positive and at least one of negatives.") from error
