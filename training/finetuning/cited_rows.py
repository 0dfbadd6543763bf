"""Chats that teach a model to answer from passages, to cite them, and to decline, made from a labelled set.

Each row is a prompt exactly as the orchestrator makes it. A question that can be answered gets the paragraph that holds the
answer among others, and the answer with that paragraph's marker; the same question, with the paragraph left out, or a question
nobody can answer, gets the words of declining.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mesh.errors import InvalidInput
from orchestrator.evaluation.sets import Document, EvaluationSet, Part, Question
from orchestrator.prompts import Template
from orchestrator.sources import Source, Span
from training.finetuning.rows import Message

DECLINE = "I do not know: the sources do not tell."
"""As the template for models that follow instructions asks for."""


@dataclass(frozen=True)
class Mixture:
    """How rows are made. `without_share` of the answerable questions lose their paragraph, and are to be declined."""

    sources: int = 3
    without_share: float = 0.2
    source_characters: int = 1200
    seed: int = 1


def cited_chats(data: EvaluationSet, part: Part, template: Template, mixture: Mixture) -> Iterator[list[Message]]:
    """A chat for each question of a part of the set that tells whether it can be answered. InvalidInput for a set without
    texts or answers.
    """
    if data.corpus is None:
        raise InvalidInput("The set has no corpus.jsonl: there is nothing to cite.")
    documents = {document.id: document for document in data.corpus.documents()}
    chosen = [question for question in data.questions if part.holds(question.id) and question.answerable is not None]
    if not any(question.answers for question in chosen):
        raise InvalidInput(f"The set {data.name} has no answers for the part {part}.")
    chance = random.Random(mixture.seed)  # noqa: S311 - a mixture, no secret
    for question in chosen:
        if chat := _chat(question, documents, template, mixture, chance):
            yield chat


def _chat(
    question: Question, documents: dict[str, Document], template: Template, mixture: Mixture, chance: random.Random
) -> list[Message] | None:
    relevant = [documents[id_] for id_, grade in question.relevant.items() if grade >= 1 and id_ in documents]
    holding = next(((each, answer) for each in relevant for answer in question.answers if answer in each.text), None)
    if question.answerable and holding is None:
        return None
    without = not question.answerable or chance.random() < mixture.without_share
    known = {each.id for each in relevant}
    shown = _others(documents, known, mixture.sources - (0 if without and question.answerable else 1), chance)
    if not question.answerable:
        shown += relevant[:1]  # what looks right and does not tell
    elif not without and holding:
        shown.append(holding[0])
    chance.shuffle(shown)
    answer = DECLINE if without or holding is None else f"{_sentence(holding[1])} [{shown.index(holding[0]) + 1}]"
    sources = [_source(number, each, holding, mixture) for number, each in enumerate(shown, 1)]
    messages = template.render(question.text, sources)
    return [
        *({"role": each.role, "content": each.text} for each in messages),
        {"role": "assistant", "content": answer},
    ]


def _others(documents: dict[str, Document], known: set[str], count: int, chance: random.Random) -> list[Document]:
    names = list(documents)
    picked: list[Document] = []
    while len(picked) < min(count, len(names) - len(known)):
        each = documents[names[chance.randrange(len(names))]]
        if each.id not in known and each not in picked:
            picked.append(each)
    return picked


def _source(number: int, document: Document, holding: tuple[Document, str] | None, mixture: Mixture) -> Source:
    """As much of a document as a chunk has; of the one with the answer, the part around it."""
    start = 0
    if holding and holding[0] is document and len(document.text) > mixture.source_characters:
        start = max(0, document.text.index(holding[1]) - mixture.source_characters // 2)
    text = document.text[start : start + mixture.source_characters]
    return Source(number, document.id, "", document.title, text, Span(start, start + len(text)), 0, (), 1.0, ())


def _sentence(answer: str) -> str:
    """With a full stop, before which the marker belongs to it."""
    answer = answer.strip()
    return answer if answer.endswith((".", "!", "?")) else f"{answer}."


def as_lines(chats: Sequence[list[Message]]) -> Iterator[dict[str, list[Message]]]:
    """In the form that fine-tuning reads."""
    return ({"messages": chat} for chat in chats)
