"""Cuts text into chunks that fit the embedder, each with its exact place: `text[start:end]` is the chunk.

Recursive splitting is langchain-text-splitters': paragraphs, then lines, sentences, words. It is told to keep every
separator and every space, so that its pieces joined are the text again and their places are running sums, never a search.
Text with headings is cut at them first: small sections are put together, large ones split evenly. A table stays whole where
it fits; a larger one is cut by rows, and its header goes with each piece beside the text, so that spans stay exact. Text
comes in blocks, so that memory does not grow with the document.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from math import ceil

from langchain_text_splitters import RecursiveCharacterTextSplitter

from ingest.headings import Outline, Section
from ingest.markdown_tables import Table, Tables, row_spans
from ingest.tokens import LONG_WORD_CHARACTERS

CountTokens = Callable[[str], int]

STRUCTURE, RECURSIVE, SENTENCE = "structure", "recursive", "sentence"
"""Splitters: at headings and around tables first; at paragraphs, lines, sentences and words; at sentences wherever
paragraphs end."""

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
    """How large chunks are, in the embedder's tokens, and where text is split.

    `window_tokens` is what the embedder reads, headings and special tokens too; `tokenizer` the model whose tokens these are,
    empty for the one of the settings.
    """

    chunk_tokens: int
    overlap_tokens: int
    window_tokens: int
    splitter: str = STRUCTURE
    tokenizer: str = ""

    @property
    def described(self) -> str:
        """In a word, to tell whether two documents were cut alike."""
        parts = [self.chunk_tokens, self.overlap_tokens, self.window_tokens]
        return "/".join(map(str, parts + ([self.splitter] if self.splitter != STRUCTURE else [])))


@dataclass(frozen=True)
class Cut:
    """A chunk's place in characters, and the headings above it, outermost first.

    `table` is the number of the table in the document that the chunk holds or begins in, 0 for none; `table_header` is the
    line of that table's header where the chunk holds rows without it.
    """

    start: int
    end: int
    headings: tuple[str, ...]
    table: int = 0
    table_header: str = ""


@dataclass(frozen=True)
class _Span:
    """A piece of a block; `rows` are those of a table that begins before it."""

    start: int
    end: int
    rows: Table | None = None


class Chunker:
    """Cuts one document, block after block."""

    def __init__(
        self, size: ChunkSize, count: CountTokens, *, outline: Outline | None = None, tables: bool = False
    ) -> None:
        self._size = size
        self._count = count
        structured = size.splitter == STRUCTURE
        self._outline = outline if structured else None
        self._find_tables = Tables().find if tables and structured else _no_tables
        self._separators = _SEPARATORS[2:] if size.splitter == SENTENCE else _SEPARATORS

    def cut(self, blocks: Iterable[str]) -> Iterator[Cut]:
        """The chunks in order. They hold all of the text but white space at their ends."""
        offset = 0
        for block in blocks:
            tables = self._find_tables(block)
            for group in self._groups(block):
                for span, headings in self._cut_group(block, group, tables):
                    table = span.rows or next(
                        (table for table in tables if table.start < span.end and span.start < table.end), None
                    )
                    yield Cut(
                        offset + span.start, offset + span.end, headings, table.number if table else 0,
                        span.rows.header if span.rows else "",
                    )  # fmt: skip
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

    def _cut_group(
        self, block: str, group: list[tuple[Section, int]], tables: list[Table]
    ) -> Iterator[tuple[_Span, tuple[str, ...]]]:
        first, start, end = group[0][0], group[0][0].start, group[-1][0].end
        tokens = sum(tokens for _, tokens in group)
        inside = [table for table in tables if start <= table.start < end]
        continued = bool(inside) and inside[0].body == inside[0].start
        if tokens <= self._room(first.above) and end - start <= MAX_CHUNK_CHARACTERS and not continued:
            above = later = _common([section.above for section, _ in group])
            spans = [_Span(start, end)]
        else:
            above, later = first.above, first.path
            room = min(self._room(above), self._room(later))
            spans = self._split_at_tables(block, start, end, inside, room)
        for number, span in enumerate(spans):
            stripped = _stripped(block, span.start, span.end)
            if stripped:
                yield _Span(*stripped, span.rows), above if number == 0 else later

    def _split_at_tables(self, block: str, start: int, end: int, tables: list[Table], room: int) -> list[_Span]:
        """Text between tables as text, tables whole or by rows; what is small goes with what stands before it."""
        spans: list[_Span] = []
        at = start
        for table in tables:
            if table.start > at:
                spans += self._split(block, at, table.start, room)
            spans += self._split_table(block, table, min(table.end, end), room)
            at = min(table.end, end)
        if at < end:
            spans += self._split(block, at, end, room)
        return self._with_small_ones(block, spans, room) if tables else spans

    def _split_table(self, block: str, table: Table, end: int, room: int) -> list[_Span]:
        weigh = self._weigh(room)
        if table.start < table.body and weigh(block[table.start : end]) <= room:
            return [_Span(table.start, end)]
        header = weigh(table.header) if weigh(table.header) <= room // 2 else 0
        rows = replace(table, header=table.header if header else "")
        spans: list[_Span] = []
        for left, right in row_spans(block, table.start, end, weigh, room - header):
            owner = rows if left >= table.body else None
            if weigh(block[left:right]) <= room - (header if owner else 0):
                spans.append(_Span(left, right, owner))
            else:  # a row that is longer than a chunk
                spans += [replace(span, rows=owner) for span in self._split(block, left, right, room - header)]
        return spans

    def _with_small_ones(self, block: str, spans: list[_Span], room: int) -> list[_Span]:
        """Puts a title before its table, and a remark after one, into one chunk where both fit."""
        weigh = self._weigh(room)
        joined: list[_Span] = []
        last = 0
        for span in spans:
            tokens = weigh(block[span.start : span.end])
            alone = not joined or span.rows is not None or joined[-1].rows is not None
            if not alone and last + tokens <= room and min(last, tokens) <= room // 4 and joined[-1].end == span.start:
                joined[-1], last = _Span(joined[-1].start, span.end), last + tokens
            else:
                joined.append(span)
                last = tokens
        return joined

    def _split(self, block: str, start: int, end: int, room: int) -> list[_Span]:
        """Splits a span evenly into pieces of at most `room` tokens, the overlap included."""
        overlap = min(self._size.overlap_tokens, room // 2)
        limit = _even(self._count(block[start:end]), room - overlap)
        splitter = RecursiveCharacterTextSplitter(
            self._separators, keep_separator="end", is_separator_regex=True, strip_whitespace=False,
            chunk_size=limit, chunk_overlap=0, length_function=self._weigh(limit),
        )  # fmt: skip
        spans = self._joined(splitter.split_text(block[start:end]), start, room - overlap)
        if overlap:
            begins = [(_stripped(block, left, right) or (left, right))[0] for left, right in spans]
            spans = spans[:1] + [
                (self._extended(block, begin + 1, left, overlap), right)
                for begin, (left, right) in zip(begins, spans[1:], strict=False)
            ]
        return [_Span(left, right) for left, right in spans]

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


def _no_tables(_: str) -> list[Table]:
    return []


def _even(tokens: int, limit: int) -> int:
    """A lower limit that makes as many pieces of nearly the same size, with a tenth of slack for where words end."""
    limit = max(8, limit)
    pieces = max(1, ceil(tokens / limit))
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
