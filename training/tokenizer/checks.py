"""What a tokenizer must show before it is used: exact round trips, and how many tokens it needs beside another one."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import regex

from mesh.errors import Internal
from training.tokenizer.special import SPECIAL_TOKENS

_RUN = 512
_WORD = regex.compile(r"\p{L}[\p{L}\p{M}]*|\p{N}+")
_SURROGATES = range(0xD800, 0xE000)


class Encoder(Protocol):
    """What the measured tokenizers share."""

    def encode(self, sequence: str, *, add_special_tokens: bool = ...) -> "Ids": ...

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = ...) -> str: ...


class Ids(Protocol):
    """An encoding."""

    @property
    def ids(self) -> list[int]: ...


@dataclass(frozen=True)
class Fertility:
    """Of one language: tokens a word, and bytes a token; `beside` is the other tokenizer's, None without one."""

    texts: int
    words: int
    tokens_a_word: float
    bytes_a_token: float
    beside_tokens_a_word: float | None = None
    beside_bytes_a_token: float | None = None


def check_round_trips(tokenizer: Encoder, texts: Iterable[str]) -> int:
    """Every character of Unicode, and all the texts, come back as they were; returns how many strings
    were tried. Internal when one does not.
    """
    tried = 0
    for text in (*_all_of_unicode(), *texts):
        tried += 1
        back = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False)
        if back != text:
            place = next((at for at, pair in enumerate(zip(text, back, strict=False)) if pair[0] != pair[1]), len(back))
            raise Internal(
                f"The tokenizer does not give a text back: U+{ord(text[place : place + 1] or ' '):04X} is lost."
            )
    return tried


def check_special(tokenizer: Encoder) -> None:
    """Each special token is one id, and reads back as itself. Internal otherwise."""
    for place, token in enumerate(SPECIAL_TOKENS):
        if tokenizer.encode(token, add_special_tokens=False).ids != [place]:
            raise Internal(f"The special token {token} is not token {place}.")


def fertility(
    tokenizer: Encoder, texts: Mapping[str, Sequence[str]], beside: Encoder | None = None
) -> dict[str, Fertility]:
    """By language, those with the most words first."""
    measured = {language: _fertility(tokenizer, each, beside) for language, each in texts.items()}
    return dict(sorted(measured.items(), key=lambda pair: -pair[1].words))


def _fertility(tokenizer: Encoder, texts: Sequence[str], beside: Encoder | None) -> Fertility:
    words = max(1, sum(len(_WORD.findall(text)) for text in texts))
    size = sum(len(text.encode()) for text in texts)
    own = max(1, _tokens(tokenizer, texts))
    other = max(1, _tokens(beside, texts)) if beside else None
    return Fertility(
        len(texts), words, own / words, size / own, other / words if other else None, size / other if other else None
    )


def _tokens(tokenizer: Encoder, texts: Sequence[str]) -> int:
    return sum(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)


def _all_of_unicode() -> Iterator[str]:
    """All code points but surrogates, which are no characters, in runs of a few hundred."""
    points = [point for point in range(sys.maxunicode + 1) if point not in _SURROGATES]
    for start in range(0, len(points), _RUN):
        yield "".join(map(chr, points[start : start + _RUN]))
