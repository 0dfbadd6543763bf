"""Finds the words of the sources that support a sentence of the answer.

Shared words decide where they are clear; only in doubt are the closest sentences compared by embedding, so that most
sentences cost microseconds and none costs more than one small call.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from orchestrator.events import Citation
from orchestrator.fencing import embeds
from orchestrator.number_pairs import NUMBER, mixes_up
from orchestrator.orders import gives_orders, is_labelled
from orchestrator.sentences import split_sentences
from orchestrator.sources import Source, Span
from orchestrator.words import coverage, rarity, stems

Embed = Callable[[Sequence[str]], Awaitable[list[list[float]]]]
Entails = Callable[[Sequence[tuple[str, str]]], Awaitable[list[float]]]
"""For each pair of words of a source and a sentence, the probability that the words entail it, 0 to 1."""

_ASKS_COUNT = re.compile(
    r"\b(?:how (?:many|much|long|far|high|old|often|hot|cold|large|big|deep|fast)|when|what (?:year|date))\b", re.I
)
_COUNT_WEIGHT = 0.15
_QUESTION_WEIGHT = 0.3
_SOURCE_RANK_WEIGHT = 0.05
_SECOND_SENTENCE_GAIN = 0.2
_COMPARED_SENTENCES = 3


@dataclass(frozen=True)
class Thresholds:
    """When a sentence counts as supported.

    `certain`: the share of its words in the quote that is enough. `possible`: the share below which nothing is compared.
    `cosine`: between the two, the cosine that is enough. `entailment`: the probability that is enough where a model judges.
    """

    certain: float = 0.6
    possible: float = 0.3
    cosine: float = 0.6
    entailment: float = 0.5


@dataclass(frozen=True)
class Support:
    """Words of a source: where they stand in the document, and how well they fit, 0 to 1."""

    source: Source
    span: Span
    quote: str
    similarity: float

    def overlaps(self, citation: Citation) -> bool:
        """Whether a citation names some of the same words."""
        same = (citation.document, citation.version) == (self.source.document, self.source.version)
        return same and citation.span.start < self.span.end and self.span.start < citation.span.end


@dataclass(frozen=True)
class Judgement:
    """How well the sources support a statement, 0 to 1, and the words that do; None when that is not enough."""

    score: float
    support: Support | None = None


@dataclass(frozen=True)
class _Candidate:
    """One or two sentences of a source. `span` counts from the source's start."""

    source: Source
    span: Span
    words: frozenset[str]

    @property
    def quote(self) -> str:
        return self.source.text[self.span.start : self.span.end]

    def support(self, similarity: float) -> Support:
        offset = self.source.span.start
        span = Span(offset + self.span.start, offset + self.span.end)
        return Support(self.source, span, self.quote, min(1.0, max(0.0, similarity)))


class Evidence:
    """The sentences of an answer's sources, ready to be compared with the sentences of the answer.

    Those from one on that speaks to the model are none of them (`orders.py`).
    """

    def __init__(
        self,
        sources: Sequence[Source],
        question: str,
        embed: Embed,
        thresholds: Thresholds,
        entails: Entails | None = None,
    ) -> None:
        self._embed, self._thresholds, self._entails = embed, thresholds, entails
        self._judged: dict[tuple[str, tuple[int, ...]], Judgement] = {}
        self._asked, self._asks_count = stems(question), _ASKS_COUNT.search(question) is not None
        self._candidates = [candidate for source in sources for candidate in _sentences(source)]
        self._weights = rarity(candidate.words for candidate in self._candidates)

    def best_in(self, source: Source, statement: str) -> Support | None:
        """What in one source fits a statement best, however little that is; None for a source without words."""
        wanted = stems(statement)
        ranked = self._ranked(wanted, [c for c in self._candidates if c.source is source])
        return self._extended(ranked[0], wanted) if ranked else None

    def best_for_question(self) -> Support | None:
        """The sentence that fits the question best; a question for a number or a time prefers one that holds a number."""

        def fitness(candidate: _Candidate) -> float:
            counted = _COUNT_WEIGHT if self._asks_count and NUMBER.search(candidate.quote) else 0.0
            return self._share(self._asked, candidate) + counted - _SOURCE_RANK_WEIGHT * candidate.source.number

        best = max(self._candidates, key=fitness, default=None)
        return best.support(self._share(self._asked, best)) if best else None

    async def judge(self, statement: str, among: Sequence[Source] = ()) -> Judgement:
        """How well the sources support a statement, and by which words: those of the sources that it names, or of all.

        A statement with a number is only supported by words that tell the same number of the same name. Each is
        judged once.
        """
        key = (statement, tuple(source.number for source in among))
        if key not in self._judged:
            self._judged[key] = await self._judge(statement, among)
        return self._judged[key]

    async def _judge(self, statement: str, among: Sequence[Source]) -> Judgement:
        wanted, numbers = stems(statement), set(NUMBER.findall(statement))
        fitting = [c for c in self._candidates if numbers <= set(NUMBER.findall(c.quote))]
        fitting = [c for c in fitting if not (numbers and mixes_up(statement, c.quote))]
        ranked = self._ranked(wanted, [c for c in fitting if not among or c.source in among]) if wanted else []
        if not ranked:
            return Judgement(0.0)
        if self._entails is not None:
            return await self._inferred(statement, ranked[:_COMPARED_SENTENCES], wanted, self._entails)
        share = self._share(wanted, ranked[0])
        if share >= self._thresholds.certain:
            support = self._extended(ranked[0], wanted)
            return Judgement(support.similarity, support)
        if share < self._thresholds.possible and not among:
            return Judgement(share)
        closest = await self._closest(statement, ranked[:_COMPARED_SENTENCES])
        return Judgement(closest.similarity, closest if closest.similarity >= self._thresholds.cosine else None)

    async def _inferred(
        self, statement: str, ranked: Sequence[_Candidate], wanted: frozenset[str], entails: Entails
    ) -> Judgement:
        supports = [self._extended(candidate, wanted) for candidate in ranked]
        scores = await entails([(support.quote, statement) for support in supports])
        best = max(range(len(scores)), key=scores.__getitem__)
        return Judgement(scores[best], supports[best] if scores[best] >= self._thresholds.entailment else None)

    def _ranked(self, wanted: frozenset[str], among: Sequence[_Candidate]) -> list[_Candidate]:
        """Sentences by the share of the wanted words; among equals the ones that speak of the question."""

        def fitness(candidate: _Candidate) -> float:
            return self._share(wanted, candidate) + _QUESTION_WEIGHT * self._share(self._asked, candidate)

        return sorted(among, key=fitness, reverse=True)

    def _share(self, wanted: frozenset[str], candidate: _Candidate) -> float:
        return coverage(wanted, candidate.words, self._weights)

    def _extended(self, found: _Candidate, wanted: frozenset[str]) -> Support:
        """The sentence, with the one before or after it where the statement speaks of both."""
        share = self._share(wanted, found)
        best, enough = found, share + _SECOND_SENTENCE_GAIN
        own = [candidate for candidate in self._candidates if candidate.source is found.source]
        place = own.index(found)
        for other in own[max(0, place - 1) : place] + own[place + 1 : place + 2]:
            span = Span(min(found.span.start, other.span.start), max(found.span.end, other.span.end))
            both = _Candidate(found.source, span, found.words | other.words)
            if (both_share := self._share(wanted, both)) >= enough:
                best, share, enough = both, both_share, both_share
        return best.support(share)

    async def _closest(self, statement: str, ranked: Sequence[_Candidate]) -> Support:
        wanted, *vectors = await self._embed([statement, *(candidate.quote for candidate in ranked)])
        cosines = [sum(a * b for a, b in zip(wanted, vector, strict=True)) for vector in vectors]
        best = max(range(len(cosines)), key=cosines.__getitem__)
        return ranked[best].support(cosines[best])


@dataclass(frozen=True)
class _Told:
    """What a text tells: the place and the words of each sentence that has any, and whether it holds nothing to leave out."""

    sentences: tuple[tuple[Span, frozenset[str]], ...]
    whole: bool


@lru_cache(maxsize=1024)
def read(text: str) -> _Told:
    """Reads a text, in some hundred microseconds. Reading it again costs nothing: what is likely to become a source can be
    read while others work."""
    sentences = split_sentences(text)
    order = next((place for place, sentence in enumerate(sentences) if gives_orders(sentence.text)), len(sentences))
    told = [sentence for sentence in sentences[:order] if not (embeds(sentence.text) or is_labelled(sentence.text))]
    found = ((sentence.span, stems(sentence.text)) for sentence in told)
    return _Told(tuple((span, words) for span, words in found if words), len(told) == len(sentences))


def _sentences(source: Source) -> list[_Candidate]:
    told = read(source.text)
    if told.sentences or not (told.whole and source.text.strip()):
        return [_Candidate(source, span, words) for span, words in told.sentences]
    title = " ".join((source.display_name, *source.headings))
    return [_Candidate(source, Span(0, len(source.text)), stems(title))]
