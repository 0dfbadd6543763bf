"""Says how two answers to one question differ: words, sources, citations, versions."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum

from orchestrator.events import Citation, Versions
from orchestrator.records import AnswerRecord
from orchestrator.sources import Source

_WORD = re.compile(r"\s*\S+\s*|\s+")


class Change(Enum):
    """What became of a piece of the text."""

    SAME = "same"
    REMOVED = "removed"
    ADDED = "added"


@dataclass(frozen=True)
class Piece:
    """Words that stand together, and what became of them."""

    change: Change
    text: str


@dataclass(frozen=True)
class Difference:
    """How an answer differs from an earlier one. `text` holds all of both; `changed_versions` are names of `Versions`."""

    text: tuple[Piece, ...]
    gained_sources: tuple[Source, ...]
    lost_sources: tuple[Source, ...]
    gained_citations: tuple[Citation, ...]
    lost_citations: tuple[Citation, ...]
    changed_versions: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether text, sources and citations are the same."""
        moved = (*self.gained_sources, *self.lost_sources, *self.gained_citations, *self.lost_citations)
        return not moved and all(piece.change is Change.SAME for piece in self.text)


def difference(before: AnswerRecord, after: AnswerRecord) -> Difference:
    """What has changed from one to the other."""
    return Difference(
        text=compared(before.text, after.text),
        gained_sources=_beyond(after.sources, before.sources),
        lost_sources=_beyond(before.sources, after.sources),
        gained_citations=_not_in(after.citations, before.citations),
        lost_citations=_not_in(before.citations, after.citations),
        changed_versions=_changed(before.finish.versions, after.finish.versions),
    )


def compared(before: str, after: str) -> tuple[Piece, ...]:
    """Both texts word by word. The pieces that are the same or removed make up `before`, the same or added ones `after`."""
    old, new = _WORD.findall(before), _WORD.findall(after)
    pieces: list[Piece] = []
    for kind, first, last, from_new, to_new in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(Piece(Change.SAME, "".join(old[first:last])))
            continue
        for change, words in ((Change.REMOVED, old[first:last]), (Change.ADDED, new[from_new:to_new])):
            if words:
                pieces.append(Piece(change, "".join(words)))
    return tuple(pieces)


def _beyond(sources: Sequence[Source], others: Sequence[Source]) -> tuple[Source, ...]:
    """Sources with a chunk that none of the others has."""
    known = {chunk for source in others for chunk in source.chunks}
    return tuple(source for source in sources if not known.issuperset(source.chunks))


def _not_in(citations: Sequence[Citation], others: Sequence[Citation]) -> tuple[Citation, ...]:
    known = {(citation.document, citation.quote) for citation in others}
    return tuple(citation for citation in citations if (citation.document, citation.quote) not in known)


def _changed(before: Versions, after: Versions) -> tuple[str, ...]:
    old, new = asdict(before), asdict(after)
    return tuple(name for name in old if old[name] != new[name])
