"""What the retriever can be told of a Qdrant server: how to reach it, and how collections are made there."""

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from mesh.settings import ServiceSettings


class QdrantSettings(ServiceSettings):
    """The retriever's settings that begin with `qdrant_`. What is said of new collections leaves those that are there."""

    qdrant_url: str = Field(
        default="http://127.0.0.1:6333",
        description="The Qdrant server: http, or https for TLS; the port is that of REST.",
    )
    qdrant_grpc_port: int = Field(default=6334, ge=1, le=65535, description="The server's gRPC port.")
    qdrant_prefer_grpc: bool = Field(default=True, description="Whether chunks and questions go by gRPC, not by REST.")
    qdrant_api_key: SecretStr | None = Field(default=None, description="The server's API key.")
    qdrant_ca: Path | None = Field(
        default=None, description="PEM file of the authority of the server's certificate. None: the system's."
    )
    qdrant_timeout_s: float = Field(default=30.0, gt=0, description="What a call of the server may take.")

    qdrant_shards: int | None = Field(
        default=None,
        ge=1,
        description="Shards of new collections; None leaves it to the server, which takes one a node.",
    )
    qdrant_replicas: int = Field(
        default=1, ge=1, description="Copies of each shard of new collections, on different nodes."
    )
    qdrant_write_consistency: int = Field(
        default=1, ge=1, description="Replicas that must have a write before it is acknowledged, in new collections."
    )
    qdrant_read_consistency: Literal["all", "majority", "quorum"] | int | None = Field(
        default=None,
        description="Replicas that a read asks: all, majority, quorum, or a number. None: one.",
    )
    qdrant_quantization: Literal["none", "scalar", "binary"] = Field(
        default="none",
        description="How new collections keep vectors in memory: as they are, as bytes (a quarter), or as bits (a 32nd).",
    )
    qdrant_rescore: bool = Field(
        default=True, description="Whether what quantized vectors find is weighed again by the whole ones."
    )
    qdrant_oversampling: float | None = Field(
        default=None,
        ge=1.0,
        le=100.0,
        description="How many times as many candidates are weighed again; None: the server's.",
    )
    qdrant_on_disk_vectors: bool = Field(
        default=False,
        description="Whether the whole vectors of new collections stay on disk, read through the page cache.",
    )
    qdrant_on_disk_payload: bool = Field(
        default=True, description="Whether texts and metadata of new collections stay on disk."
    )
    qdrant_hnsw_m: int | None = Field(
        default=None, ge=4, le=256, description="Edges a node of the graph in new collections; None: the server's."
    )
    qdrant_hnsw_ef_construct: int | None = Field(
        default=None,
        ge=4,
        le=4096,
        description="Candidates while the graph is built, in new collections; None: the server's.",
    )
    qdrant_search_ef: int | None = Field(
        default=None, ge=1, le=4096, description="Candidates while the graph is searched; None: the server's."
    )

    @field_validator("qdrant_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"{url!r} is no address of a Qdrant server, such as http://127.0.0.1:6333 or https://qdrant:6333."
            )
        return url

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.qdrant_ca is not None and not self.qdrant_url.startswith("https://"):
            raise ValueError("qdrant_ca is for TLS: write qdrant_url with https, or take qdrant_ca out.")
        if self.qdrant_write_consistency > self.qdrant_replicas:
            raise ValueError(
                f"qdrant_write_consistency is {self.qdrant_write_consistency}, more than the {self.qdrant_replicas} of "
                "qdrant_replicas: no write would ever be acknowledged."
            )
        read = self.qdrant_read_consistency
        if isinstance(read, int) and not 1 <= read <= self.qdrant_replicas:
            raise ValueError(
                f"qdrant_read_consistency is {read}; it must be 1 to qdrant_replicas, {self.qdrant_replicas}."
            )
        if self.qdrant_oversampling is not None and (self.qdrant_quantization == "none" or not self.qdrant_rescore):
            raise ValueError(
                "qdrant_oversampling is how many candidates are weighed again: it needs qdrant_quantization, scalar or "
                "binary, and qdrant_rescore."
            )
        return self
