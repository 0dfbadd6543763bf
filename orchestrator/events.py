"""The events of an answer, in the order in which they come: started, passages, deltas and citations, finish."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from mesh.places import NOWHERE, Place
from orchestrator.sources import Source, Span


class Outcome(Enum):
    """Whether the question was answered."""

    ANSWERED = "answered"
    DECLINED = "declined"


class StopReason(Enum):
    """Why the model ended."""

    STOP = "stop"
    LENGTH = "length"
    TIME_LIMIT = "time_limit"


@dataclass(frozen=True)
class Started:
    """The question is accepted. `standalone_question` is what a follow-up question was understood as, or empty;
    `further_searches` are what was searched for beside it."""

    answer_id: str
    standalone_question: str = ""
    further_searches: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourcesFound:
    """The numbered sources that the model sees; none when nothing relevant was found."""

    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Delta:
    """New text of the answer, never empty."""

    text: str


@dataclass(frozen=True)
class Citation:
    """A place that the answer rests on; its quote was found in the stored text at `span` before this was made."""

    marker: int
    document: str
    display_name: str
    version: str
    page: int
    span: Span
    quote: str
    attributed: bool
    answer_span: Span
    similarity: float
    place: Place = NOWHERE


@dataclass(frozen=True)
class GroundedSentence:
    """A sentence of the answer, how well the sources support it, 0 to 1, and whether that is enough."""

    span: Span
    score: float
    supported: bool


@dataclass(frozen=True)
class Usage:
    """Tokens of the prompt, those of them that were reused, and generated tokens."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class EngineTimings:
    """Seconds in the generator: waiting, until the first token, and from there to the last."""

    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


@dataclass(frozen=True)
class Generated:
    """How the generator's part ended. `model` is `models/{model}@{version}`."""

    reason: StopReason
    usage: Usage
    model: str
    timings: EngineTimings


@dataclass(frozen=True)
class Versions:
    """What an answer came from; `model` is empty when it was not asked."""

    index: str = ""
    prompt: str = ""
    model: str = ""
    corpus: str = ""


@dataclass(frozen=True)
class Timings:
    """Seconds; `first_token_s` and `total_s` count from the question's arrival."""

    retrieve_s: float
    prompt_s: float
    generate: EngineTimings
    first_token_s: float
    total_s: float


@dataclass(frozen=True)
class CachedFrom:
    """The answer that was given again: its id, when it was given, and what it took then."""

    answer_id: str
    create_time: datetime
    usage: Usage


@dataclass(frozen=True)
class Finish:
    """How an answer ended. `conversation` is the id it was added to, or empty.

    It is not `complete` when a service could not be asked whether some citation stands: then it is not given again.
    """

    reason: StopReason
    outcome: Outcome
    usage: Usage
    versions: Versions
    timings: Timings
    dropped_markers: int = 0
    conversation: str = ""
    sentences: tuple[GroundedSentence, ...] = ()
    withheld_sentences: int = 0
    complete: bool = True
    seed: int | None = None
    cached: CachedFrom | None = None


Event = Started | SourcesFound | Delta | Citation | Finish
