"""Lets only those sentences of the model pass that the sources support (strict answers).

A sentence passes or is withheld when it is complete. One in which the model says that it does not know passes.
"""

from collections.abc import AsyncGenerator, Mapping

from mesh.errors import MurpheyError
from orchestrator.attribution import Evidence
from orchestrator.events import Generated
from orchestrator.markers import read_statement
from orchestrator.relevance import admits_not_knowing
from orchestrator.sentences import Sentence, SentenceStream
from orchestrator.sources import Source
from orchestrator.words import stems


class Withholding:
    """The sentences of one answer."""

    def __init__(self, sources: Mapping[int, Source], evidence: Evidence, question: str) -> None:
        self._sources, self._evidence, self._asked = sources, evidence, stems(question)
        self._sentences = SentenceStream()
        self._raw = ""
        self._end = 0
        self._gap = ""
        self._passed = False
        self.withheld = 0
        """Sentences that did not pass."""
        self.complete = True
        """Whether each sentence could be compared with the sources."""

    async def passing(self, stream: AsyncGenerator[str | Generated, None]) -> AsyncGenerator[str | Generated, None]:
        """The supported sentences of a stream, each in one piece, and its end. What is not ended is not said."""
        async for piece in stream:
            ended = isinstance(piece, Generated)
            if isinstance(piece, str):
                self._raw += piece
            for sentence in self._sentences.close() if ended else self._sentences.feed(piece):
                if text := await self._judged(sentence):
                    yield text
            if ended:
                yield piece

    async def _judged(self, sentence: Sentence) -> str:
        """The sentence with the white space that leads to it, or nothing."""
        self._gap += self._raw[self._end : sentence.span.start]
        self._end = sentence.span.end
        if not await self._passes(sentence):
            self.withheld += 1
            return ""
        lead = ("\n" * min(2, self._gap.count("\n")) or " ") if self._passed else ""
        self._passed, self._gap = True, ""
        return lead + sentence.text

    async def _passes(self, sentence: Sentence) -> bool:
        statement = read_statement(sentence)
        if not stems(statement.words):
            return self._passed  # a number of a list, or a marker that stands apart: it belongs to what was said
        if admits_not_knowing(statement.words):
            return True
        if statement.words.endswith("?") or stems(statement.words) <= self._asked:
            return False  # small models repeat the question, above all where a document confuses them
        named = [self._sources[number] for number in statement.markers if number in self._sources]
        try:
            return (await self._evidence.judge(statement.words, named)).support is not None
        except MurpheyError:  # without a retriever only shared words can tell
            self.complete = False
            return False
