"""Packs the best passages into the model's token budget: whole chunks, none twice, those that touch merged into one source.

Token counts come from the generator's tokenizer; nothing here counts or cuts text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.sources import Chunk, Passage, Source, Span

JOIN_TOKENS = 2
"""What a tokenizer may add where two chunks are joined: the words at the seam can fall into other tokens."""


MAX_NEIGHBORS = 32
"""More are not looked at: a prompt has no room for them, and trying each costs time before the first token."""


@dataclass(frozen=True)
class Budget:
    """What the sources may take: tokens in all, tokens between two sources, and how many sources."""

    tokens: int
    separator_tokens: int
    max_sources: int


@dataclass(frozen=True)
class _Piece:
    """A chunk with its place among the candidates, 0 for the best."""

    chunk: Chunk
    rank: int
    score: float


_Run = list[_Piece]


def candidates(passages: Sequence[Passage]) -> list[Chunk]:
    """The chunks that come into question, each once: the hits by rank, then their neighbours."""
    return [piece.chunk for piece in _pieces(passages)]


def first_choice(passages: Sequence[Passage], max_sources: int) -> list[Chunk]:
    """What `pack` takes when tokens do not matter. When these fit together it takes just these and looks at no other count."""
    return [piece.chunk for run in _taken(passages, lambda runs: len(runs) <= max_sources) for piece in run]


def cost(chunks: Sequence[Chunk], tokens: Mapping[str, int], separator_tokens: int) -> int:
    """Tokens that chunks take at most, whether each is a source of its own or is joined to another."""
    return sum(tokens[chunk.id] + max(separator_tokens, JOIN_TOKENS) for chunk in chunks)


def pack(passages: Sequence[Passage], tokens: Mapping[str, int], budget: Budget) -> tuple[Source, ...]:
    """Numbered sources, the one with the best passage first, within the budget.

    `tokens` holds the count of every candidate by chunk id, as the prompt shows it alone (see `first_choice`). A chunk that
    does not fit is left out, and a later, smaller one may still come in.
    """

    def fits(runs: Sequence[_Run]) -> bool:
        return len(runs) <= budget.max_sources and _cost(runs, tokens, budget.separator_tokens) <= budget.tokens

    runs = _taken(passages, fits)
    return tuple(_source(number, run) for number, run in enumerate(runs, start=1))


def _taken(passages: Sequence[Passage], fits: Callable[[Sequence[_Run]], bool]) -> list[_Run]:
    """Takes one candidate after the other that still fits; the runs, the one with the best passage first."""
    taken: list[_Piece] = []
    runs: list[_Run] = []
    for piece in _pieces(passages):
        tried = _merge([*taken, piece])
        if fits(tried):
            taken, runs = [*taken, piece], tried
    return sorted(runs, key=lambda run: min(piece.rank for piece in run))


def single_source(chunk: Chunk) -> Source:
    """A chunk as a source of its own, with a number as long as any."""
    return _source(99, [_Piece(chunk, 0, 0.0)])


def _pieces(passages: Sequence[Passage]) -> list[_Piece]:
    hits = [(passage.chunk, passage.score) for passage in passages]
    neighbors = [(chunk, passage.score) for passage in passages for chunk in _around(passage)]
    seen: set[str] = set()
    pieces: list[_Piece] = []
    for chunk, score in [*hits, *neighbors[:MAX_NEIGHBORS]]:
        same_text = " ".join(chunk.text.split())
        if chunk.id in seen or same_text in seen or len(chunk.text) != chunk.span.end - chunk.span.start:
            continue
        seen |= {chunk.id, same_text}
        pieces.append(_Piece(chunk, len(pieces), score))
    return pieces


def _around(passage: Passage) -> list[Chunk]:
    """Its neighbours, the nearest first: the farther ones are what is left out where there is no room."""
    return sorted((*passage.before, *passage.after), key=lambda chunk: abs(chunk.index - passage.chunk.index))


def _merge(pieces: Sequence[_Piece]) -> list[_Run]:
    """Runs of pieces of one document version in which each touches or overlaps what comes before it."""
    runs: list[_Run] = []
    for piece in sorted(pieces, key=lambda piece: (piece.chunk.document, piece.chunk.version, piece.chunk.span.start)):
        if runs and _touches(runs[-1], piece.chunk):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    return runs


def _touches(run: _Run, chunk: Chunk) -> bool:
    first = run[0].chunk
    if (first.document, first.version) != (chunk.document, chunk.version):
        return False
    text, span = _joined(run)
    shared = text[chunk.span.start - span.start :]
    return chunk.span.start <= span.end and (chunk.text.startswith(shared) or shared.startswith(chunk.text))


def _joined(run: _Run) -> tuple[str, Span]:
    """The text of a run, which equals the document's text at the run's span."""
    text, start = run[0].chunk.text, run[0].chunk.span.start
    for piece in run[1:]:
        end = start + len(text)
        text += piece.chunk.text[end - piece.chunk.span.start :]
    return text, Span(start, start + len(text))


def _cost(runs: Sequence[_Run], tokens: Mapping[str, int], separator_tokens: int) -> int:
    chunks = sum(tokens[piece.chunk.id] for run in runs for piece in run)
    return chunks + len(runs) * separator_tokens + sum(len(run) - 1 for run in runs) * JOIN_TOKENS


def _source(number: int, run: _Run) -> Source:
    text, span = _joined(run)
    first = run[0].chunk
    return Source(
        number=number,
        document=first.document,
        version=first.version,
        display_name=first.display_name or first.document,
        text=text,
        span=span,
        page=first.page,
        headings=first.headings,
        score=max(piece.score for piece in run),
        chunks=tuple(piece.chunk.id for piece in run),
        place=first.place,
    )
