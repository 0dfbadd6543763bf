"""Which language a document is in, for collections whose words are analysed by language: `language` is `auto`.

Told by py3langid (naive Bayes on byte n-grams; Lui & Baldwin 2012): documents among all languages, questions, which are short,
among those of the collection's documents. BM25 alone on XQuAD's paragraphs in English, German and Spanish in one collection,
nDCG@10: all as English .968, .902, .941; `auto` .960, .935, .950; each question's language known .960, .935, .952.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from retriever.chunks import Chunk, text_to_index
from retriever.sparse import AUTO, DEFAULT_LANGUAGE, SparseVector, words_of

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

READ_CHARACTERS = 2_000
"""Of a document's text in one call, half a millisecond."""
LEAST_SHARE = 0.5
"""Of the probability: below it a text may be in any language, and counts as English."""
CERTAIN_SHARE = 0.8
"""Of the probability of a collection's languages: below it a question may be in any of them."""
_WORD = re.compile(r"\w+")
_NAMES = {
    "ar": "arabic", "az": "azerbaijani", "bn": "bengali", "ca": "catalan", "da": "danish", "de": "german", "el": "greek",
    "en": "english", "es": "spanish", "eu": "basque", "fi": "finnish", "fr": "french", "he": "hebrew", "hu": "hungarian",
    "id": "indonesian", "it": "italian", "ja": "japanese", "kk": "kazakh", "nb": "norwegian", "ne": "nepali", "nl": "dutch",
    "nn": "norwegian", "no": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sl": "slovene",
    "sv": "swedish", "tr": "turkish", "zh": "chinese",
}  # fmt: skip
"""By ISO 639-1 code, those that BM25 has stop words or a stemmer for."""


def language_of(text: str) -> str:
    """The English name of a text's language; English where it cannot be told or has no word model."""
    code, share = _identifier().classify(text[:READ_CHARACTERS])
    return _NAMES.get(code, DEFAULT_LANGUAGE) if share >= LEAST_SHARE else DEFAULT_LANGUAGE


def weigh(chunks: Sequence[Chunk], language: str) -> tuple[list[SparseVector], set[str]]:
    """The weighed words of the chunks, and the languages that they were found in. Blocks."""
    texts = [text_to_index(chunk) for chunk in chunks]
    if language != AUTO:
        return [words_of(language).of_document(text) for text in texts], {language}
    whole: dict[str, str] = {}
    for chunk, text in zip(chunks, texts, strict=True):
        read = whole.get(chunk.document, "")
        whole[chunk.document] = f"{read}\n{text}"[:READ_CHARACTERS] if len(read) < READ_CHARACTERS else read
    languages = {document: language_of(text) for document, text in whole.items()}
    words = [words_of(languages[chunk.document]).of_document(text) for chunk, text in zip(chunks, texts, strict=True)]
    return words, set(languages.values())


def of_question(text: str, languages: Sequence[str]) -> SparseVector:
    """Each word once, in the question's language where it can be told, else in all of them.

    Where it cannot be told, a word that counts for nothing in one of the languages is left out: the English `the` would find
    German documents that quote a title. Empty when nothing is left.
    """
    if len(languages) == 1:
        return words_of(languages[0]).of_query(text)
    likeliest, share = _likeliest(text, languages)
    if share >= CERTAIN_SHARE:
        return words_of(likeliest).of_query(text)
    weights: dict[int, float] = {}
    kept = set[str]()
    for word in dict.fromkeys(_WORD.findall(text.lower())):
        forms = [words_of(language).of_query(word) for language in languages]
        if all(form.indices for form in forms):
            kept.add(word)
            weights |= {index: value for form in forms for index, value in zip(form.indices, form.values, strict=True)}
    return SparseVector(list(weights), list(weights.values()), len(kept))


def _likeliest(text: str, languages: Sequence[str]) -> tuple[str, float]:
    """The one of these languages that a text is in, and its share of their probability."""
    shares = dict.fromkeys(languages, 0.0)
    for code, share in _identifier().rank(text[:READ_CHARACTERS]):
        name = _NAMES.get(code, "")
        if name in shares:
            shares[name] += share
    best = max(shares, key=lambda language: shares[language])
    return best, shares[best] / (sum(shares.values()) or 1.0)


@lru_cache(maxsize=1)
def _identifier() -> "LanguageIdentifier":
    """Read once, 5 MB."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
