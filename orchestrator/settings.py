"""What the orchestrator can be told."""

from typing import ClassVar

from pydantic import Field

from mesh.settings import ServiceSettings
from orchestrator.splitting import Split


class OrchestratorSettings(ServiceSettings):
    """Where the other services are, and what an answer may take."""

    service: ClassVar[str] = "orchestrator"

    retriever: str = Field(default="127.0.0.1:7402", description="Address of the retriever.")
    generator: str = Field(default="127.0.0.1:7403", description="Address of the generator.")
    ingest: str = Field(default="127.0.0.1:7404", description="Address of ingest, which knows the documents' texts.")
    database_url: str = Field(
        default="", description="Database of the conversations; empty is SQLite in the data folder."
    )
    passage_limit: int = Field(
        default=8, ge=1, le=100, description="Passages retrieved for a question that sets no limit."
    )
    neighbors: int = Field(
        default=0, ge=0, le=10, description="Chunks before and after a passage that may come with it."
    )
    sections: bool = Field(
        default=False,
        description="Whether the rest of a passage's section, the text under the same headings, may come with it.",
    )
    split_questions: Split = Field(
        default=Split.LIKELY,
        description="Questions that are searched for in two steps: never, likely (they seem to need two facts) or always.",
    )
    reranker: str = Field(
        default="",
        description="What orders an answer's passages anew before they are read, one of the retriever's, such as "
        "late-interaction; empty: nothing does.",
    )
    max_answers: int = Field(default=64, ge=1, description="Answers under way at most; beyond it questions wait.")
    max_wait_s: float = Field(
        default=10.0, ge=0, description="How long a question waits for a place at most before it is refused."
    )
    max_pending_tokens: int = Field(
        default=1_000_000,
        ge=1,
        description="Tokens that answers under way and waiting questions may take of models; refused beyond.",
    )
    batch_share: float = Field(
        default=0.5, gt=0, le=1, description="Part of max_answers that questions of the priority batch may take."
    )
    search_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Part of an answer's time that its searches may take; the rest is the model's.",
    )
    max_history_turns: int = Field(
        default=10, ge=0, description="Earlier turns of a conversation that may reach the prompt."
    )
    answer_timeout_s: float = Field(default=120.0, gt=0, description="Time of an answer whose caller set no deadline.")
    search_timeout_s: float = Field(default=20.0, gt=0, description="Time of a search, within the answer's.")
    verify_timeout_s: float = Field(default=5.0, gt=0, description="Time to read a cited source's stored text.")
    answer_cache_mb: int = Field(
        default=128,
        ge=0,
        description="Megabytes of answers that are kept in memory while nothing changes; 0 keeps none.",
    )
    max_kept_answers: int = Field(
        default=10_000, ge=0, description="Answers that can be shown and replayed, the latest ones; 0 keeps none."
    )
    keep_answers_days: float = Field(default=30.0, gt=0, description="How long an answer can be shown and replayed.")
    minimum_relevance: float = Field(
        default=0.57,
        ge=0,
        description="Cosine plus half the share of the question's words in a passage: below it the question is declined. "
        "Calibrated for all-MiniLM-L6-v2; other embedders need their own value.",
    )
    minimum_support: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="Share of a sentence's words in a quote that attributes it without a marker.",
    )
    minimum_cosine: float = Field(
        default=0.6, ge=-1, le=1, description="Cosine that attributes a sentence where its words leave doubt."
    )
    entailment_model: str = Field(
        default="",
        description="A cross-encoder for natural-language inference, folder or hub id, that judges whether sentences are "
        "supported, in place of shared words and cosine; empty is none.",
    )
    minimum_entailment: float = Field(
        default=0.5, ge=0, le=1, description="Probability of entailment from which such a model supports a sentence."
    )
