"""What the retriever can be told."""

from typing import ClassVar, Literal

from pydantic import Field

from retriever.qdrant_settings import QdrantSettings


class RetrieverSettings(QdrantSettings):
    """Default < murphey.toml `[retriever]` < `MURPHEY_RETRIEVER_*` < flag."""

    service: ClassVar[str] = "retriever"

    embedder: str = Field(
        default="all-minilm-l6-v2", description="A sentence-transformers model: known name, folder or hub id."
    )
    more_embedders: tuple[str, ...] = Field(
        default=(),
        description="Other models that collections may name, beside those that can be pulled; opened when first needed.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where the embedder runs; auto prefers CUDA."
    )
    precision: Literal["int8", "f32", "bf16"] = Field(
        default="int8", description="How the embedder computes on CPU; int8 is the fastest, bf16 needs AMX to be fast."
    )
    embed_threads: int = Field(default=0, ge=0, description="CPU threads of the embedder; 0 takes every core.")
    max_waiting_texts: int = Field(
        default=16_384, ge=1, description="Texts that may wait to be embedded before calls are refused."
    )

    reranker: str = Field(
        default="late-interaction",
        description="What orders passages anew where a search asks for it: `late-interaction`, on the embedder's own tokens, "
        "or a sentence-transformers CrossEncoder by folder or hub id.",
    )
    more_rerankers: tuple[str, ...] = Field(
        default=(), description="Other rerankers that searches may name; opened when first needed."
    )

    store: Literal["edge", "server"] = Field(
        default="edge",
        description="Where new collections go: Qdrant inside this process, or a Qdrant server (`qdrant_…`).",
    )
    max_waiting_searches: int = Field(
        default=1_024, ge=1, description="Searches that may wait for the store before more are refused."
    )
    query_cache_mb: int = Field(
        default=32, ge=0, description="Megabytes of embedded questions that are kept in memory; 0 keeps none."
    )
    search_cache_mb: int = Field(
        default=64, ge=0, description="Megabytes of search results that are kept while nothing changes; 0 keeps none."
    )
    optimize_after_chunks: int = Field(
        default=8_000, ge=1_000, description="Unindexed or deleted chunks that start an index build."
    )
