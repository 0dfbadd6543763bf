"""One answer under way: what it has said so far, and what its finish will tell."""

import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mesh import metrics
from orchestrator.conversations import StoredTurn
from orchestrator.events import (
    Citation,
    Delta,
    EngineTimings,
    Finish,
    Generated,
    GroundedSentence,
    Outcome,
    StopReason,
    Timings,
    Usage,
    Versions,
)
from orchestrator.questions import Question

_FIRST_TOKEN = metrics.histogram("answer_first_token_seconds", "From a question's arrival to the first delta.")


@dataclass
class Course:
    """Mutable on purpose: a notebook that one answer writes into. Times are seconds since the question's arrival."""

    question: Question
    standalone: str = ""
    """The question as it was understood."""
    answer_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    retrieved_s: float = 0.0
    prompted_s: float = 0.0
    first_token_s: float = 0.0
    citations: list[Citation] = field(default_factory=list)
    index: str = ""
    corpus: str = ""
    prompt: str = ""
    generated: Generated | None = None
    outcome: Outcome = Outcome.ANSWERED
    dropped_markers: int = 0
    sentences: list[GroundedSentence] = field(default_factory=list)
    withheld_sentences: int = 0
    complete: bool = True
    """Whether all services that were asked about citations answered."""
    length: int = 0
    """Characters of the answer so far."""
    _arrived: float = field(default_factory=time.perf_counter)
    _deltas: list[str] = field(default_factory=list)

    def elapsed_s(self) -> float:
        """Since the question arrived."""
        return time.perf_counter() - self._arrived

    def delta(self, text: str) -> Delta:
        """The event of new text, noted."""
        if not self._deltas:
            self.first_token_s = self.elapsed_s()
            _FIRST_TOKEN.observe(self.first_token_s)
        self._deltas.append(text)
        self.length += len(text)
        return Delta(text)

    def cited(self, citations: list[Citation]) -> list[Citation]:
        """The citations, noted."""
        self.citations += citations
        return citations

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._deltas)

    @property
    def versions(self) -> Versions:
        """What the answer came from."""
        return Versions(self.index, self.prompt, self.generated.model if self.generated else "", self.corpus)

    def turn(self) -> StoredTurn:
        """The question with its answer, for its conversation."""
        text, cited = self.question.text, tuple(self.citations)
        return StoredTurn(self.answer_id, text, self.text, cited, self.versions, datetime.now(UTC))

    def finish(self, conversation: str) -> Finish:
        """The last event."""
        generated = self.generated
        engine = generated.timings if generated else EngineTimings()
        prompt_s = max(0.0, self.prompted_s - self.retrieved_s)
        return Finish(
            reason=generated.reason if generated else StopReason.STOP,
            outcome=self.outcome,
            usage=generated.usage if generated else Usage(),
            versions=self.versions,
            timings=Timings(self.retrieved_s, prompt_s, engine, self.first_token_s, self.elapsed_s()),
            dropped_markers=self.dropped_markers,
            conversation=conversation,
            sentences=tuple(self.sentences),
            withheld_sentences=self.withheld_sentences,
            complete=self.complete,
            seed=self.question.sampling.seed if generated else None,
        )
