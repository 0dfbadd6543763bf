"""Searches for what a question needs: once, or in two steps where it needs two facts (`splitting.py`)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mesh import logs
from mesh.errors import MurpheyError
from orchestrator.ports import Retriever
from orchestrator.questions import Question
from orchestrator.sections import LONGEST_REACH, within_section
from orchestrator.sources import Passage, SearchResult
from orchestrator.splitting import Split, merged, second_search

log = logs.get(__name__)


@dataclass(frozen=True)
class Reach:
    """How much is looked for: passages of a question that sets no limit, chunks around each that may come with it, whether its
    whole section may, and which questions are split."""

    passage_limit: int = 8
    neighbors: int = 0
    sections: bool = False
    split: Split = Split.LIKELY


@dataclass(frozen=True)
class Searched:
    """What was found, and what was searched for beside the question.

    `first` are the passages that the question itself found: only their cosines are cosines with the question.
    """

    found: SearchResult
    first: Sequence[Passage]
    further: tuple[str, ...] = ()


class Searching:
    """Searches with the retriever."""

    def __init__(self, retriever: Retriever, reach: Reach) -> None:
        self._retriever, self._reach = retriever, reach

    async def search(self, question: Question, wanted: str) -> Searched:
        """What fits `wanted`, which is the question as it was understood."""
        first = await self._once(question, wanted)
        further = second_search(wanted, first.passages[0]) if first.passages and self._splits(question) else ""
        if not further:
            return Searched(first, first.passages)
        try:
            second = await self._once(question, further)
        except MurpheyError as error:  # what the question itself found is still an answer's worth
            log.warning("second_search_failed", collection=question.collection, error=error.message)
            return Searched(replace(first, corpus_version=""), first.passages)
        passages = merged(first.passages, second.passages, self._limit(question))
        same_state = first.corpus_version == second.corpus_version
        found = replace(first, passages=passages, corpus_version=first.corpus_version if same_state else "")
        return Searched(found, first.passages, (further,))

    async def _once(self, question: Question, text: str) -> SearchResult:
        reach = self._reach
        found = await self._retriever.search(
            text,
            collection=question.collection,
            search_filter=question.search_filter,
            limit=self._limit(question),
            neighbors=LONGEST_REACH if reach.sections else reach.neighbors,
            use=question.use,
        )
        if not reach.sections:
            return found
        return replace(found, passages=tuple(within_section(passage, reach.neighbors) for passage in found.passages))

    def _limit(self, question: Question) -> int:
        return question.passage_limit or self._reach.passage_limit

    def _splits(self, question: Question) -> bool:
        """By its own words: a follow-up that was joined to earlier questions holds theirs too."""
        wish = {None: self._reach.split, True: Split.ALWAYS, False: Split.NEVER}[question.split]
        return wish.applies(question.text)
