"""What an evaluation asks, and what would be right: questions, judgements and answers. Reading files is `reading`'s."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import PurePosixPath
from urllib.parse import quote, unquote

MAX_FILE_NAME_CHARACTERS = 1_000


class Part(StrEnum):
    """Half of a set's questions, told by the SHA-256 of their ids: what is tuned on one half is reported on the other."""

    ALL = "all"
    CALIBRATION = "calibration"
    HELD_OUT = "held-out"

    def holds(self, question_id: str) -> bool:
        """Whether a question belongs to the part; an even digest is the calibration half's."""
        return self is Part.ALL or (self is Part.CALIBRATION) == (_digest(question_id) % 2 == 0)


@dataclass(frozen=True)
class Document:
    """One text of a corpus."""

    id: str
    title: str
    text: str

    @property
    def content(self) -> str:
        """What the document's file holds: the title, where there is one, then the text. Empty when there is neither."""
        return "\n\n".join(part for part in (self.title.strip(), self.text.strip()) if part)

    @property
    def file_name(self) -> str:
        """A name that any id can be read back from: `471.txt`, `a%2Fb.txt`."""
        return f"{quote(self.id, safe=' ')}.txt"


@dataclass(frozen=True)
class Question:
    """One question. `relevant` are grades by document, of which 1 and more count as relevant.

    `answerable` is None where the set does not tell, and False where the right answer is that nobody can know.
    """

    id: str
    text: str
    relevant: Mapping[str, int]
    answers: tuple[str, ...] = ()
    answerable: bool | None = None

    @property
    def is_judged(self) -> bool:
        """Whether a ranking can be scored."""
        return any(grade >= 1 for grade in self.relevant.values())


@dataclass(frozen=True)
class Corpus:
    """The documents of a set. They are read from their file each time, so that a large corpus needs little memory."""

    ids: frozenset[str]
    fingerprint: str
    documents: Callable[[], Iterator[Document]]


@dataclass(frozen=True)
class EvaluationSet:
    """A labelled set. `fingerprint` changes with any document, question, judgement or answer."""

    name: str
    questions: tuple[Question, ...]
    corpus: Corpus | None

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits; the order of the questions does not matter."""
        rows = sorted(
            json.dumps([q.id, q.text, sorted(q.relevant.items()), sorted(q.answers), q.answerable])
            for q in self.questions
        )
        content = "\n".join([self.corpus.fingerprint if self.corpus else "", *rows])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def judged_documents(self) -> set[str]:
        """Documents that at least one question needs."""
        return {document for q in self.questions for document, grade in q.relevant.items() if grade >= 1}

    def narrowed(self, questions: Sequence[Question]) -> "EvaluationSet":
        """The same set with fewer questions."""
        return replace(self, questions=tuple(questions))


def chosen(questions: Sequence[Question], part: Part, count: int | None) -> list[Question]:
    """The questions of a part, or `count` of them, always the same ones, in the set's order."""
    within = [question for question in questions if part.holds(question.id)]
    if count is None or count >= len(within):
        return within
    ids = {question.id for question in sorted(within, key=lambda q: _digest(f"sample {q.id}"))[:count]}
    return [question for question in within if question.id in ids]


def document_id(display_name: str, known: Collection[str]) -> str:
    """The corpus id that a stored document stands for; its own name where it stands for none.

    Tried in turn: the name itself, the name that `Document.file_name` gives, the file's name, and that without its ending.
    """
    path = PurePosixPath(display_name)
    for name in (display_name, unquote(display_name.removesuffix(".txt")), path.name, path.stem):
        if name in known:
            return name
    return display_name


def _digest(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)
