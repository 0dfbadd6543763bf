"""Gopher's rules on repeated lines, paragraphs and runs of words (Rae et al. 2021, table A1), as datatrove has them.

datatrove compares runs of words as strings, ten times over; here they are numbers, and a text in which no run of five words
stands twice is done after the first look. The verdicts are the same.
"""

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.filters.gopher_repetition_filter import GopherRepetitionFilter, find_duplicates
from datatrove.utils.text import split_into_words
from numpy.typing import NDArray

from training.prepare.documents import is_code
from training.prepare.ngrams import runs_of, word_hashes


class Repetition(GopherRepetitionFilter):
    """Drops what repeats itself."""

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        if is_code(doc):
            return True
        reason = self._repeated_lines(doc.text) or self._repeated_runs(doc.text)
        return (False, reason) if reason else True

    def _repeated_lines(self, text: str) -> str:
        for kind, parts, most, most_characters in (
            ("para", self.paragraph_exp.split(text.strip()), self.dup_para_frac, self.dup_para_char_frac),
            ("line", self._line_splitter.split(text), self.dup_line_frac, self.dup_line_char_frac),
        ):
            count, characters = find_duplicates(parts)
            if most and count / len(parts) > most:
                return f"dup_{kind}_frac"
            if most_characters and characters / len(text) > most_characters:
                return f"dup_{kind}_char_frac"
        return ""

    def _repeated_runs(self, text: str) -> str:
        words = split_into_words(text, self.language)
        single, size = word_hashes(words), len(text)
        ends = np.concatenate([[0], np.cumsum([len(word) for word in words])])
        for n, most in self.top_n_grams:
            runs = runs_of(single, n)
            if len(runs) and _top_characters(runs, ends, n) / size > most:
                return f"top_{n}_gram"
        for n, most in self.dup_n_grams:
            runs = runs_of(single, n)
            if len(np.unique(runs)) == len(runs):
                return ""
            if _repeated_characters(runs.tolist(), ends, n) / size > most:
                return f"duplicated_{n}_n_grams"
        return ""


def _top_characters(runs: NDArray[np.uint64], ends: NDArray[np.int64], n: int) -> int:
    """Of the most frequent run, the first of several, with its spaces: its length times how often it stands there."""
    _, places, counts = np.unique(runs, return_index=True, return_counts=True)
    top = counts.max()
    place = int(places[counts == top].min())
    return int((ends[place + n] - ends[place] + n - 1) * top)


def _repeated_characters(runs: list[int], ends: NDArray[np.int64], n: int) -> int:
    """Of runs that stood there before, without their spaces; what was counted is passed over."""
    seen: set[int] = set()
    characters, place = 0, 0
    while place < len(runs):
        if runs[place] in seen:
            characters += int(ends[place + n] - ends[place])
            place += n
        else:
            seen.add(runs[place])
            place += 1
    return characters
