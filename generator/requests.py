"""What a caller asks of the generator and what it gets: plain values between the servicer, the domain and the engine.

Nothing here knows of gRPC or of an engine. `sampling.py` checks the values; `engines/base.py` has what crosses into the
engine's process.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Literal


class Role(Enum):
    """Who says a message; the value is the name that chat templates use."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True)
class ChatMessage:
    """One turn of a chat."""

    role: Role
    text: str


@dataclass(frozen=True)
class Prompt:
    """A chat for the model's template, or a text that is continued as it stands; exactly one of the two."""

    chat: tuple[ChatMessage, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Guidance:
    """The form that a completion must have: a JSON Schema, a regular expression or an EBNF grammar, as text."""

    kind: Literal["json_schema", "regex", "grammar"]
    source: str


@dataclass(frozen=True)
class Sampling:
    """How to sample; None is "not set". Ranges and meaning: protos/murphey/generator/v1/sampling.proto."""

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
    guidance: Guidance | None = None
    time_limit_s: float | None = None


class FinishReason(Enum):
    """Why a completion ended."""

    STOP = "stop"
    LENGTH = "length"
    TIME_LIMIT = "time_limit"


@dataclass(frozen=True)
class Answerer:
    """The model that answers, by its id here, and its version."""

    model: str
    version: str


@dataclass(frozen=True)
class Started:
    """The request is admitted. `prompt_tokens` is 0 where only the engine can count them, and it has not told yet."""

    request_id: str
    prompt_tokens: int
    by: Answerer


@dataclass(frozen=True)
class Delta:
    """New text, never empty, and how many tokens it came from."""

    text: str
    tokens: int


@dataclass(frozen=True)
class Usage:
    """Tokens used; `cached` of the prompt's were reused from an earlier request, 0 where the engine cannot tell."""

    prompt: int
    cached: int
    completion: int


@dataclass(frozen=True)
class Timings:
    """Seconds waiting for a place, until the first token, and from the first to the last."""

    queue_s: float
    prefill_s: float
    decode_s: float


@dataclass(frozen=True)
class Finish:
    """How a completion ended and what it cost."""

    reason: FinishReason
    usage: Usage
    timings: Timings
    by: Answerer


@dataclass(frozen=True)
class Counts:
    """Tokens of prompts, in their order, and the id of the model whose tokenizer counted."""

    tokens: tuple[int, ...]
    model: str


CompletionEvent = Started | Delta | Finish
"""A completion is one Started, any number of Delta, one Finish."""
