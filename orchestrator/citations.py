"""Resolves the markers of an answer to places in documents while it streams, and sends none that does not stand.

The path of a token only cuts sentences. A worker beside it finds and verifies what each sentence rests on, in order;
`ready` gives what it has done so far, `rest` waits for all of it.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from mesh import metrics
from mesh.errors import MurpheyError
from orchestrator.attribution import Evidence, Judgement, Support
from orchestrator.events import Citation, GroundedSentence
from orchestrator.markers import Statement, read_statement
from orchestrator.relevance import admits_not_knowing
from orchestrator.sentences import SentenceStream
from orchestrator.sources import Source, Span
from orchestrator.verification import Verdict, Verifier
from orchestrator.words import stems

_CITATIONS = metrics.counter("citations", "Citations, by what became of them.", ("result",))


class Citer:
    """The citations of one answer. Use it as an async context manager: leaving it ends its worker."""

    def __init__(self, sources: tuple[Source, ...], evidence: Evidence, verifier: Verifier) -> None:
        self._sources = {source.number: source for source in sources}
        self._evidence, self._verifier = evidence, verifier
        self._sentences = SentenceStream()
        self._last_words = ""
        self._waiting: asyncio.Queue[Statement | None] = asyncio.Queue()
        self._done: deque[Citation] = deque()
        self.sentences: list[GroundedSentence] = []
        """The sentences that state something, as far as they have been judged."""
        self.dropped_markers = 0
        """Markers that point to no source."""
        self.complete = True
        """Whether every quote could be compared with the stored text, and every sentence with the sources."""
        self.admissions = 0
        """Sentences in which the model says that it does not know."""

    async def __aenter__(self) -> Self:
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)

    def feed(self, delta: str) -> None:
        """Takes new text of the answer."""
        for sentence in self._sentences.feed(delta):
            self._waiting.put_nowait(read_statement(sentence))

    def ready(self) -> list[Citation]:
        """Citations that were not given yet, in the order of the answer."""
        found = list(self._done)
        self._done.clear()
        return found

    async def rest(self) -> list[Citation]:
        """The remaining citations; the answer has ended."""
        for sentence in self._sentences.close():
            self._waiting.put_nowait(read_statement(sentence))
        self._waiting.put_nowait(None)
        await self._worker
        return self.ready()

    async def quote(self, support: Support, template: str, start: int) -> tuple[str, Citation] | None:
        """A text that quotes these words, to stand in the answer from `start` on, and its citation; None unless they verify."""
        citation = await self._cite(support, Span(start, start), attributed=True)
        if citation is None:
            return None
        text = template.format(quote=citation.quote, number=citation.marker)
        first = start + text.index(citation.quote)
        stands = Span(first, first + len(citation.quote))
        self.sentences.append(GroundedSentence(stands, 1.0, True))
        return text, replace(citation, answer_span=stands)

    async def _cite(self, support: Support, answer_span: Span, *, attributed: bool) -> Citation | None:
        checked = await self._verifier.check(support)
        _CITATIONS.labels(checked.verdict.value).inc()
        self.complete = self.complete and checked.verdict is not Verdict.UNKNOWN
        if checked.verdict is not Verdict.STANDS:
            return None
        source = support.source
        return Citation(
            marker=source.number,
            document=source.document,
            display_name=source.display_name,
            version=source.version,
            page=checked.page,
            span=support.span,
            quote=support.quote,
            attributed=attributed,
            answer_span=answer_span,
            similarity=support.similarity,
            place=checked.place,
        )

    async def _work(self) -> None:
        while (statement := await self._waiting.get()) is not None:
            for support, attributed in await self._supports(statement):
                citation = await self._cite(support, statement.span, attributed=attributed)
                if citation is not None:
                    self._done.append(citation)

    async def _supports(self, statement: Statement) -> list[tuple[Support, bool]]:
        words = statement.words or self._last_words
        self._last_words = words
        known = [self._sources[number] for number in statement.markers if number in self._sources]
        self.dropped_markers += len(statement.markers) - len(known)
        if not known and admits_not_knowing(words):
            self.admissions += 1
            return []
        judged = await self._judged(words, known)
        if stems(statement.words):
            self.sentences.append(GroundedSentence(statement.span, judged.score, judged.support is not None))
        if known:
            found = [self._evidence.best_in(source, words) for source in known]
            return [(support, False) for support in found if support is not None]
        return [(judged.support, True)] if judged.support is not None else []

    async def _judged(self, words: str, named: Sequence[Source]) -> Judgement:
        try:
            return await self._evidence.judge(words, named)
        except MurpheyError:  # the answer goes on without a retriever; the sentence stays without a citation
            _CITATIONS.labels("not_compared").inc()
            self.complete = False
            return Judgement(0.0)
