"""Words and sentences as datatrove's rules count them, by two patterns.

datatrove would take spaCy's tokenizers, which are slower and need packages by language; the rules ask for no more than what a
word is. In scripts that write no spaces each character counts as a word.
"""

import re

from datatrove.utils.word_tokenizers import WordTokenizer

_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_SPACELESS}]|[^\W_{_SPACELESS}]+(?:['’][^\W_{_SPACELESS}]+)*|(?:[^\w\s]|_)+")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?=\s|$)|[。！？]+[」』”]?|\n")


class Words(WordTokenizer):
    """All are equal, so that datatrove's cache of the last texts is shared by the steps."""

    def word_tokenize(self, text: str) -> list[str]:
        return _WORD.findall(text)

    def sent_tokenize(self, text: str) -> list[str]:
        return [text[start:end].strip() for start, end in self.span_tokenize(text)]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """From the end of one sentence to the end of the next."""
        spans: list[tuple[int, int]] = []
        start = 0
        for found in _SENTENCE_END.finditer(text):
            if text[start : found.end()].strip():
                spans.append((start, found.end()))
                start = found.end()
        if text[start:].strip():
            spans.append((start, len(text)))
        return spans

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Words)

    def __hash__(self) -> int:
        return hash(Words)
