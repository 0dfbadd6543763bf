"""Cuts text into chunks that fit the embedder, each with its exact place: `text[start:end]` is the chunk.

Recursive splitting is langchain-text-splitters': paragraphs, then lines, sentences, words. It is told to keep every
separator and every space, so that its pieces joined are the text again and their places are running sums, never a search.
Markdown is cut at headings first: small sections are put together, large ones split evenly. Text comes in blocks, so that
memory does not grow with the document.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise, takewhile
from math import ceil

from langchain_text_splitters import RecursiveCharacterTextSplitter

from ingest.headings import Outline, Section
from ingest.tokens import LONG_WORD_CHARACTERS

CountTokens = Callable[[str], int]

MAX_CHUNK_CHARACTERS = 16_384
"""Far below the retriever's 65,536: a chunk of spaces and dots costs few tokens a character."""
SPECIAL_TOKENS = 2
"""What the embedder adds to each text, such as [CLS] and [SEP]."""

_SEPARATORS = [
    r"\n[ \t]*\n\s*",
    r"\n",
    r"[.!?][\"')\]]*\s+|[。！？]",
    r"[;:,]\s+|[、，；]",
    r"\s+",
    rf"\S{{{LONG_WORD_CHARACTERS}}}",
    "",
]
"""Paragraphs, lines, sentences, parts of sentences, words, parts of words, characters."""


@dataclass(frozen=True)
class ChunkSize:
    """How large chunks are, in the embedder's tokens. `window_tokens` is what it reads, headings and special tokens too."""

    chunk_tokens: int
    overlap_tokens: int
    window_tokens: int


@dataclass(frozen=True)
class Cut:
    """A chunk's place in characters, and the headings above it, outermost first."""

    start: int
    end: int
    headings: tuple[str, ...]


class Chunker:
    """Cuts one document, block after block."""

    def __init__(self, size: ChunkSize, count: CountTokens, *, markdown: bool) -> None:
        self._size = size
        self._count = count
        self._outline = Outline() if markdown else None

    def cut(self, blocks: Iterable[str]) -> Iterator[Cut]:
        """The chunks in order. They hold all of the text but white space at their ends."""
        offset = 0
        for block in blocks:
            for group in self._groups(block):
                for start, end, headings in self._cut_group(block, group):
                    yield Cut(offset + start, offset + end, headings)
            offset += len(block)

    def _groups(self, block: str) -> Iterator[list[tuple[Section, int]]]:
        """Neighbouring sections that fit into one chunk together, each with its tokens; a large section stands alone."""
        group: list[tuple[Section, int]] = []
        for section in self._sections(block):
            tokens = self._count(block[section.start : section.end])
            if group and not self._fits(group, section, tokens):
                yield group
                group = []
            group.append((section, tokens))
        if group:
            yield group

    def _sections(self, block: str) -> Iterable[Section]:
        return self._outline.sections(block) if self._outline else [Section(0, len(block), 0, (), ())]

    def _fits(self, group: list[tuple[Section, int]], section: Section, tokens: int) -> bool:
        first = group[0][0]
        in_all = sum(tokens for _, tokens in group) + tokens
        deeper = section.level >= first.level or first.level == 0
        small = section.end - first.start <= MAX_CHUNK_CHARACTERS
        return deeper and small and in_all <= self._room(first.above)

    def _room(self, headings: tuple[str, ...]) -> int:
        """Tokens left for a chunk's own text below these headings."""
        window = self._size.window_tokens - SPECIAL_TOKENS - self._count(" ".join(headings))
        return max(16, min(self._size.chunk_tokens, window))

    def _cut_group(self, block: str, group: list[tuple[Section, int]]) -> Iterator[tuple[int, int, tuple[str, ...]]]:
        first, start, end = group[0][0], group[0][0].start, group[-1][0].end
        tokens = sum(tokens for _, tokens in group)
        if tokens <= self._room(first.above) and end - start <= MAX_CHUNK_CHARACTERS:
            above = later = _common([section.above for section, _ in group])
            spans = [(start, end)]
        else:
            above, later = first.above, first.path
            room = min(self._room(above), self._room(later))
            spans = self._split(block, start, end, tokens, room)
        for number, (left, right) in enumerate(spans):
            stripped = _stripped(block, left, right)
            if stripped:
                yield *stripped, above if number == 0 else later

    def _split(self, block: str, start: int, end: int, tokens: int, room: int) -> list[tuple[int, int]]:
        """Splits a span evenly into pieces of at most `room` tokens, the overlap included."""
        overlap = min(self._size.overlap_tokens, room // 2)
        limit = _even(tokens, room - overlap)
        splitter = RecursiveCharacterTextSplitter(
            _SEPARATORS, keep_separator="end", is_separator_regex=True, strip_whitespace=False,
            chunk_size=limit, chunk_overlap=0, length_function=self._weigh(limit),
        )  # fmt: skip
        spans = self._joined(splitter.split_text(block[start:end]), start, room - overlap)
        if not overlap:
            return spans
        pairs = pairwise(spans)
        return spans[:1] + [
            (self._extended(block, first + 1, left, overlap), right) for (first, _), (left, right) in pairs
        ]

    def _joined(self, pieces: list[str], start: int, room: int) -> list[tuple[int, int]]:
        """The pieces' spans; a small piece, such as a heading's line before a long paragraph, goes with its neighbour."""
        spans: list[tuple[int, int]] = []
        weigh, at, last = self._weigh(room), start, 0
        for piece in pieces:
            tokens = weigh(piece)
            if spans and last + tokens <= room and min(last, tokens) <= room // 4:
                spans[-1], last = (spans[-1][0], at + len(piece)), last + tokens
            else:
                spans.append((at, at + len(piece)))
                last = tokens
            at += len(piece)
        return spans

    def _weigh(self, limit: int) -> CountTokens:
        """Tokens, or the share of the character limit where that is larger."""
        count, per_token = self._count, max(1, MAX_CHUNK_CHARACTERS // limit)

        def weigh(text: str) -> int:
            return max(count(text), -(-len(text) // per_token))

        return weigh

    def _extended(self, block: str, start: int, at: int, overlap_tokens: int) -> int:
        """Where a chunk begins that repeats up to `overlap_tokens` of the one before, at a word's beginning after `start`."""
        before = block[max(start, at - overlap_tokens * LONG_WORD_CHARACTERS) : at]
        words = before.split()
        left, tokens = at, 0
        for word in reversed(words):
            tokens += self._count(word)
            if tokens > overlap_tokens:
                break
            left = block.rindex(word, start, left)
        return left


def _even(tokens: int, limit: int) -> int:
    """A lower limit that makes as many pieces of nearly the same size, with a tenth of slack for where words end."""
    limit = max(8, limit)
    pieces = ceil(tokens / limit)
    return min(limit, ceil(tokens / pieces * 1.1) + 1)


def _common(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The headings that all paths begin with."""
    shared = takewhile(lambda titles: len(set(titles)) == 1, zip(*paths, strict=False))
    return tuple(titles[0] for titles in shared)


def _stripped(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The span without white space at its ends; None when nothing is left."""
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    right = len(piece.rstrip())
    return (start + left, start + right) if right > left else None
