"""What the retriever finds and what the model sees of it: chunks, passages, numbered sources. Spans count code points."""

from dataclasses import dataclass

from mesh.places import NOWHERE, Place


@dataclass(frozen=True)
class Span:
    """`text[start:end]` of a document's parsed text, or of an answer."""

    start: int
    end: int


@dataclass(frozen=True)
class Chunk:
    """A stored piece of a document; `text` equals the parsed text of `version` at `span`. `page` is 0 where there is none."""

    id: str
    document: str
    version: str
    index: int
    text: str
    span: Span
    page: int = 0
    headings: tuple[str, ...] = ()
    display_name: str = ""
    place: Place = NOWHERE


@dataclass(frozen=True)
class Passage:
    """A chunk that was found, with its neighbours. `dense_score` is the cosine with the search text, where it is known."""

    chunk: Chunk
    score: float
    dense_score: float | None = None
    before: tuple[Chunk, ...] = ()
    after: tuple[Chunk, ...] = ()


@dataclass(frozen=True)
class SearchResult:
    """Passages, the best first, the index they came from, and the state of its contents before the search."""

    passages: tuple[Passage, ...]
    index_version: str = ""
    corpus_version: str = ""


@dataclass(frozen=True)
class Source:
    """A numbered source of the prompt: one chunk, or chunks of one document that touch, merged into one text.

    `page` is the one it begins on; 0 where the format has none.
    """

    number: int
    document: str
    version: str
    display_name: str
    text: str
    span: Span
    page: int
    headings: tuple[str, ...]
    score: float
    chunks: tuple[str, ...]
    place: Place = NOWHERE
