"""Which documents are good text: language, and the rules of Gopher, C4 and FineWeb. Source code passes: collecting chose it.

The rules are datatrove's, with FineWeb's settings (Penedo et al. 2024): C4's rule that every line ends a sentence is left out,
as it takes headings, lists and verses with it. Stop words are of the document's language.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.filters.c4_filters import C4QualityFilter
from datatrove.pipeline.filters.fineweb_quality_filter import FineWebQualityFilter
from datatrove.pipeline.filters.gopher_quality_filter import GopherQualityFilter

from training.prepare.documents import is_code
from training.prepare.repetition import Repetition
from training.prepare.samples import Samples
from training.prepare.words import Words

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

READ_CHARACTERS = 2_000
_STOP_WORDS = {
    "en": ("the", "be", "to", "of", "and", "that", "have", "with"),
    "de": ("der", "die", "das", "und", "in", "zu", "den", "nicht", "von", "ist", "mit", "sich"),
    "es": ("de", "la", "que", "el", "en", "y", "a", "los", "se", "del", "con", "por"),
    "fr": ("de", "la", "le", "et", "les", "des", "en", "un", "du", "une", "que", "est"),
    "it": ("di", "e", "il", "la", "che", "in", "a", "per", "un", "è", "del", "con"),
    "pt": ("de", "a", "o", "que", "e", "do", "da", "em", "um", "para", "com", "não"),
    "nl": ("de", "het", "een", "en", "van", "ik", "te", "dat", "die", "in", "is", "niet"),
}
"""By ISO 639-1; of other languages none is asked for."""


class LanguageFilter(BaseFilter):
    """Tells the language by py3langid; `languages` are ISO 639-1 codes, none for all that can be told with enough certainty."""

    name = "language"

    def __init__(self, languages: tuple[str, ...], least_share: float, samples: Samples) -> None:
        super().__init__(samples)  # pyright: ignore[reportArgumentType]
        self.languages, self.least_share = frozenset(languages), least_share

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        if is_code(doc):
            return True
        language, share = _identifier().classify(doc.text[:READ_CHARACTERS])
        doc.metadata["language"] = str(language)
        if share < self.least_share:
            return False, "language cannot be told"
        if self.languages and language not in self.languages:
            return False, f"language {language}"
        return True


class Quality(GopherQualityFilter):
    """Gopher's rules on length, symbols, bullets and stop words."""

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        if is_code(doc):
            return True
        self.stop_words = set(_STOP_WORDS.get(str(doc.metadata.get("language")), ()))
        self.min_stop_words = 2 if self.stop_words else 0
        return super().filter(doc)


class C4(C4QualityFilter):
    """C4's rules on lines (Raffel et al. 2020); short lines stay, as headings and the breaks between paragraphs are such."""

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        return True if is_code(doc) else super().filter(doc)


class FineWeb(FineWebQualityFilter):
    """FineWeb's rules on line ends, short lines and repeated characters."""

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        return True if is_code(doc) else super().filter(doc)


def quality_filters(samples: Path) -> list[tuple[str, PipelineStep]]:
    """The rules in FineWeb's order, each with its name."""

    def dropped(step: str) -> Any:
        return Samples(samples, step)

    words: Any = Words()
    return [
        ("gopher repetition", Repetition(exclusion_writer=dropped("gopher repetition"), language=words)),
        ("gopher quality", Quality(exclusion_writer=dropped("gopher quality"), language=words)),
        ("c4", C4(dropped("c4"), language=words, filter_no_terminal_punct=False, min_words_per_line=-1)),
        ("fineweb", FineWeb(exclusion_writer=dropped("fineweb"), language=words)),
    ]


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
