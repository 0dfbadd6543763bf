"""What can be asked, and the bounds that a question must keep. Knows nothing of how it is answered."""

import math
from dataclasses import dataclass, fields, replace
from typing import ClassVar

from mesh.caching import DEFAULT_USE, Use
from mesh.errors import InvalidInput

MAX_QUESTION_CHARACTERS = 8_192
MAX_PASSAGE_LIMIT = 100
MAX_STOPS, MAX_STOP_TOKENS, MAX_BAD_WORDS = 16, 64, 64


@dataclass(frozen=True)
class Sampling:
    """How the model samples; what is None or empty takes the prompt template's default, then the model's.

    `guidance` is a kind (`json_schema`, `regex`, `grammar`) and its text.
    """

    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    bad_words: tuple[str, ...] = ()
    guidance: tuple[str, str] | None = None
    time_limit_s: float | None = None

    @property
    def gives_the_same_again(self) -> bool:
        """Whether the model's words do not depend on chance."""
        return self.temperature == 0 or self.top_k == 1 or self.seed is not None

    def over(self, defaults: "Sampling") -> "Sampling":
        """These settings, with `defaults` where nothing is set.

        Who asks for at least so many tokens wants no default that ends the answer earlier.
        """
        if self.min_tokens:
            longest = max(self.min_tokens, defaults.max_tokens or 0)
            defaults = replace(defaults, stop=(), max_tokens=longest)
        own = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) not in (None, ())}
        return replace(defaults, **own)


@dataclass(frozen=True)
class Question:
    """One question, checked by `check`.

    `search_filter` is the caller's filter in the retriever's own serialised form: it is passed on, never looked into.
    `conversation` is an id, or empty; `collection` is a name with its tenant (mesh.access.tenants) and `model` a
    resource name, or empty for the default.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"ser_json_bytes": "base64", "val_json_bytes": "base64"}
    """How a stored question's filter is written."""

    text: str
    collection: str = ""
    conversation: str = ""
    search_filter: bytes = b""
    passage_limit: int | None = None
    model: str = ""
    sampling: Sampling = Sampling()
    strict: bool | None = None
    """Whether sentences without support are withheld; None is the prompt template's default."""
    split: bool | None = None
    """Whether it is searched for in two steps where one leaves words of it open; None is the deployment's default."""
    use: Use = DEFAULT_USE
    """How caches take part."""


def check(question: Question) -> None:
    """InvalidInput, naming the field, unless every part of the question is within its bounds."""
    _check_text(question.text)
    limit = question.passage_limit
    if limit is not None and not 1 <= limit <= MAX_PASSAGE_LIMIT:
        raise _wrong("passage_limit", limit, f"1 to {MAX_PASSAGE_LIMIT}")
    if question.model and not (question.model.startswith("models/") and len(question.model) > len("models/")):
        raise InvalidInput(f"{question.model[:100]!r} is not a model's name: write models/ID.", field="question.model")
    _check_sampling(question.sampling)


def _check_text(text: str) -> None:
    if not text.strip():
        raise InvalidInput("The question is empty: write what you want to know.", field="question.text")
    if len(text) > MAX_QUESTION_CHARACTERS:
        raise InvalidInput(
            f"The question has {len(text):,} characters; at most {MAX_QUESTION_CHARACTERS:,} are taken. Ask more briefly, "
            "or ingest the long text as a document and ask about it.",
            field="question.text",
        )


_NUMBERS: dict[str, tuple[float, float, str]] = {
    "max_tokens": (1, math.inf, "1 or more"),
    "min_tokens": (0, math.inf, "0 or more"),
    "temperature": (0, 2, "0 to 2"),
    "top_p": (math.nextafter(0, 1), 1, "above 0 and up to 1"),
    "top_k": (0, math.inf, "0 or more"),
    "min_p": (0, 1, "0 to 1"),
    "repetition_penalty": (math.nextafter(0, 1), 10, "above 0 and up to 10"),
    "presence_penalty": (-2, 2, "-2 to 2"),
    "frequency_penalty": (-2, 2, "-2 to 2"),
    "time_limit_s": (math.nextafter(0, 1), math.inf, "above 0"),
}
"""Lowest, highest, and both in words. NaN and infinity lie outside of every range."""


def _check_sampling(sampling: Sampling) -> None:
    for name, (lowest, highest, words) in _NUMBERS.items():
        value = getattr(sampling, name)
        if value is not None and not (math.isfinite(value) and lowest <= value <= highest):
            raise _wrong(f"sampling.{name.removesuffix('_s')}", value, words)
    if sampling.max_tokens is not None and (sampling.min_tokens or 0) > sampling.max_tokens:
        raise _wrong("sampling.min_tokens", sampling.min_tokens, f"0 to max_tokens, which is {sampling.max_tokens}")
    for name, most in (("stop", MAX_STOPS), ("stop_token_ids", MAX_STOP_TOKENS), ("bad_words", MAX_BAD_WORDS)):
        given = getattr(sampling, name)
        if len(given) > most or "" in given:
            raise _wrong(f"sampling.{name}", f"a list of {len(given)}", f"at most {most}, none of them empty")


def _wrong(field: str, value: object, allowed: str) -> InvalidInput:
    return InvalidInput(f"{field} is {value}; it must be {allowed}.", field=f"question.{field}")
