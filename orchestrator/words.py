"""Words compared by their stems: how much of one text another one covers. Cheap enough for the path of a token."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from math import log

_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W_]+")
"""A run of letters and digits; each character by itself in scripts that put no space between words."""

_STOP_WORD_LIST = (
    "a about after all also am an and any are as at be been before being between but by can could did do does doing down "
    "during each for from had has have having he her his how i if in into is it its may me might many more most much must my "
    "no not of on or other our out over she should so some such than that the their them then there these they this "
    "those to under up us was we were what when where which who whom whose why will with would you your"
)
_STOP_WORDS = frozenset(_STOP_WORD_LIST.split())


def stems(text: str) -> frozenset[str]:
    """The stems of a text's content words."""
    return frozenset(stem(word) for word in _WORD.findall(text.casefold()) if word not in _STOP_WORDS)


def is_stop_word(word: str) -> bool:
    """Whether a word tells nothing by itself, in any case."""
    return word.casefold() in _STOP_WORDS


@lru_cache(maxsize=32_768)
def stem(word: str) -> str:
    """Strips the commonest English endings, so that `flights` meets `flight`; other words stay nearly as they are."""
    if len(word) > 5 and word.endswith("ing"):
        word = word[:-3]
    elif len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 4 and word.endswith(("ed", "es", "ly")):
        word = word[:-2]
    elif len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


def coverage(wanted: Collection[str], present: Collection[str], weights: Mapping[str, float] | None = None) -> float:
    """The share of `wanted` stems that are `present`, 0 to 1, each counted by its weight; 0 when nothing is wanted.

    A stem without a weight counts as much as the rarest.
    """
    if not wanted:
        return 0.0
    if weights is None:
        return sum(word in present for word in wanted) / len(wanted)
    rarest = max(weights.values(), default=1.0)
    total = sum(weights.get(word, rarest) for word in wanted)
    return sum(weights.get(word, rarest) for word in wanted if word in present) / total


def rarity(texts: Iterable[frozenset[str]]) -> dict[str, float]:
    """Weights of stems over a set of texts: a word in few of them tells more (the IDF of BM25, Robertson 2009)."""
    known = list(texts)
    counts = Counter(word for words in known for word in words)
    return {word: log(1 + (len(known) - count + 0.5) / (count + 0.5)) for word, count in counts.items()}
