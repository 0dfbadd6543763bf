"""A server's own words: what of them may stand in an error of ours, and what they say is at fault."""

import re

from generator.engines.base import RemoteRequest

_MOST_SAID = 300
_QUOTE = 16
"""So many characters in a row that stand in the prompt too are a quote of it."""
_LENGTH = re.compile(r"context length|context window|max_model_len|max_seq_len|too long|maximum.*tokens", re.IGNORECASE)
_FORM = re.compile(r"grammar|regex|schema|structured|guid(ed|ance)|response_format", re.IGNORECASE)


def words_of(said: str, request: RemoteRequest) -> str:
    """`: what it said`, cut short, and nothing when that quotes the prompt."""
    message = " ".join(said[:_MOST_SAID].split()).rstrip(". ")
    return f": {message}" if message and not _quotes(message, request) else ""


def blames_length(said: str) -> bool:
    """Whether it says that the prompt is too long."""
    return _LENGTH.search(said) is not None


def blamed_form(said: str, request: RemoteRequest) -> str:
    """The field of the form that it says is at fault; empty when it does not."""
    guidance = request.sampling.guidance
    return f"sampling.guidance.{guidance.kind}" if guidance is not None and _FORM.search(said) else ""


def _quotes(message: str, request: RemoteRequest) -> bool:
    """Whether the caller's own text stands in it, which is nobody's to repeat in an error or a log."""
    prompt = " ".join(" ".join([request.prompt.text, *(turn.text for turn in request.prompt.chat)]).split())
    last = max(1, len(message) - _QUOTE + 1)
    return bool(prompt) and any(message[at : at + _QUOTE] in prompt for at in range(last)) and len(message) >= _QUOTE
