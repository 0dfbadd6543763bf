"""Checks sampling parameters: every range of sampling.proto, and what the model's engine can honour.

Raises InvalidInput that names the field; nothing is silently clamped or ignored.
"""

import math
from dataclasses import fields

from generator.requests import Sampling
from mesh.errors import InvalidInput

DEFAULT_MAX_TOKENS = 512
MAX_STOP_STRINGS, MAX_STOP_TOKEN_IDS, MAX_BAD_WORDS = 16, 64, 64
MAX_BAD_WORD_CHARACTERS = 256
"""Of all bad words together: they become a grammar, and compiling a longer one would keep the engine for seconds."""
MAX_GUIDANCE_BYTES = 256 * 1024
"""A grammar is compiled before the first token; a larger one would keep the engine from everyone else."""

_WIRE_NAMES = {"time_limit_s": "time_limit"}
_INTEGERS: dict[str, tuple[int, int]] = {
    "max_tokens": (1, 2**31 - 1),
    "min_tokens": (0, 2**31 - 1),
    "top_k": (0, 2**31 - 1),
}
_NUMBERS: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
_ABOVE_ZERO: dict[str, float] = {"top_p": 1, "repetition_penalty": 10, "time_limit_s": math.inf}


def check(sampling: Sampling, supported: frozenset[str], engine: str, vocabulary_tokens: int | None) -> None:
    """InvalidInput when a field is out of its range or set although `engine` honours only `supported`.

    `vocabulary_tokens` is None where it is not known.
    """
    for field in fields(sampling):
        if getattr(sampling, field.name) not in (None, ()) and wire_name(field.name) not in supported:
            raise _wrong(field.name, f"is set, but the engine {engine} cannot honour it; leave it unset")
    _check_numbers(sampling)
    _check_lists(sampling, vocabulary_tokens)
    if sampling.max_tokens is not None and (sampling.min_tokens or 0) > sampling.max_tokens:
        raise _wrong("min_tokens", f"is {sampling.min_tokens}, more than max_tokens, which is {sampling.max_tokens}")
    _check_guidance(sampling)


def wire_name(field: str) -> str:
    """The name of a field of Sampling in SamplingParams."""
    return _WIRE_NAMES.get(field, field)


def _check_numbers(sampling: Sampling) -> None:
    for name, (low, high) in _INTEGERS.items():
        value = getattr(sampling, name)
        if value is not None and not low <= value <= high:
            raise _wrong(name, f"is {value}; it must be {low} or more")
    for name, (low, high) in _NUMBERS.items():
        value = getattr(sampling, name)
        if value is not None and not low <= value <= high:  # false for NaN too
            raise _wrong(name, f"is {value}; it must be a number from {low:g} to {high:g}")
    for name, high in _ABOVE_ZERO.items():
        value = getattr(sampling, name)
        if value is not None and not (0 < value <= high and math.isfinite(value)):
            limit = "a finite number above 0" if math.isinf(high) else f"a number above 0 and up to {high:g}"
            raise _wrong(name, f"is {value}; it must be {limit}")


def _check_lists(sampling: Sampling, vocabulary_tokens: int | None) -> None:
    limits = {"stop": MAX_STOP_STRINGS, "stop_token_ids": MAX_STOP_TOKEN_IDS, "bad_words": MAX_BAD_WORDS}
    for name, limit in limits.items():
        values = getattr(sampling, name)
        if len(values) > limit:
            raise _wrong(name, f"has {len(values)} entries; at most {limit} are allowed")
        if "" in values:
            raise _wrong(name, "has an empty entry; remove it")
    if (length := sum(map(len, sampling.bad_words))) > MAX_BAD_WORD_CHARACTERS:
        raise _wrong("bad_words", f"has {length} characters in all; at most {MAX_BAD_WORD_CHARACTERS} are allowed")
    for token in sampling.stop_token_ids:
        if token < 0 or (vocabulary_tokens is not None and token >= vocabulary_tokens):
            last = "" if vocabulary_tokens is None else f" to {vocabulary_tokens - 1}"
            raise _wrong("stop_token_ids", f"has {token}; the model's tokens are 0{last}")


def _check_guidance(sampling: Sampling) -> None:
    guidance = sampling.guidance
    if guidance is None:
        return
    field = f"guidance.{guidance.kind}"
    if not guidance.source:
        raise _wrong(field, "is empty")
    if len(guidance.source.encode()) > MAX_GUIDANCE_BYTES:
        raise _wrong(field, f"is longer than {MAX_GUIDANCE_BYTES} bytes")


def _wrong(field: str, what: str) -> InvalidInput:
    path = f"sampling.{wire_name(field)}"
    return InvalidInput(f"{path} {what}.", field=path)
