"""Words as sparse vectors: BM25's term weights, made here for every store; the store's index multiplies the IDF in."""

from dataclasses import dataclass
from functools import lru_cache

from qdrant_edge import Bm25, Bm25Config

from mesh.errors import InvalidInput

DEFAULT_LANGUAGE, AUTO = "english", "auto"
"""`auto` is each document's own (languages.py)."""
TERM_SATURATION, LENGTH_NORMALIZATION, AVERAGE_WORDS = 1.2, 0.75, 100.0
"""BM25's k1, b and the mean length of a chunk in words (Robertson & Zaragoza 2009)."""


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Weights of the words at their hashes."""

    indices: list[int]
    values: list[float]
    different_words: int = 0
    """Of a question, where one word may have several hashes; 0: as many as there are hashes."""

    @property
    def words(self) -> int:
        """Different words."""
        return self.different_words or len(self.indices)


@lru_cache(maxsize=32)
def words_of(language: str) -> "Words":
    """The word model of a language; InvalidInput when there is none."""
    return Words(language)


class Words:
    """Splits, stems and weighs the words of one language. Thread-safe."""

    def __init__(self, language: str) -> None:
        config = Bm25Config(k=TERM_SATURATION, b=LENGTH_NORMALIZATION, avg_len=AVERAGE_WORDS, language=language.lower())
        try:
            self._bm25 = Bm25(config)
        except ValueError as error:
            message = (
                f"There is no word model for the language {language[:50]!r}: write an English name such as 'german', or "
                "'auto' for each document's own."
            )
            raise InvalidInput(message, field="collection.language") from error

    def of_document(self, text: str) -> SparseVector:
        """Term frequencies, saturated and normalized by length."""
        found = self._bm25.embed_document(text)
        return SparseVector(found.indices, found.values)

    def of_query(self, text: str) -> SparseVector:
        """Each word once. Empty when the text holds stop words only."""
        found = self._bm25.embed_query(text)
        return SparseVector(found.indices, found.values)
