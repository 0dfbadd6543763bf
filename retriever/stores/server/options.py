"""How collections are made on a Qdrant server, how they are searched, and how the server is reached."""

import math
import ssl
from dataclasses import dataclass
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from mesh.errors import InvalidInput
from retriever.qdrant_settings import QdrantSettings

_READ = {kind.value: kind for kind in models.ReadConsistencyType}
_QUANTIZED: dict[str, models.QuantizationConfig] = {
    "scalar": models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
    ),
    "binary": models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True)),
}


@dataclass(frozen=True)
class ServerOptions:
    """In Qdrant's own terms. Without any, all is left to the server."""

    replication: dict[str, Any]
    """For every collection, those that hold no vectors too: shards, replicas, and how many of these a write must reach."""
    storage: dict[str, Any]
    """For collections of chunks."""
    dense: dict[str, Any]
    """For their dense vectors, where these are searched."""
    hnsw: models.HnswConfigDiff
    search: models.SearchParams | None
    """For dense searches."""
    consistency: models.ReadConsistency | None
    """For reads."""

    @classmethod
    def of(cls, settings: QdrantSettings) -> "ServerOptions":
        """As the settings say."""
        quantization = _QUANTIZED.get(settings.qdrant_quantization)
        replication: dict[str, Any] = {
            "replication_factor": settings.qdrant_replicas,
            "write_consistency_factor": settings.qdrant_write_consistency,
        }
        if settings.qdrant_shards is not None:
            replication["shard_number"] = settings.qdrant_shards
        dense = {"on_disk": True} if settings.qdrant_on_disk_vectors else {}
        return cls(
            replication=replication,
            storage={"on_disk_payload": settings.qdrant_on_disk_payload},
            dense=dense if quantization is None else {**dense, "quantization_config": quantization},
            hnsw=models.HnswConfigDiff(m=settings.qdrant_hnsw_m, ef_construct=settings.qdrant_hnsw_ef_construct),
            search=_search(settings, quantized=quantization is not None),
            consistency=_consistency(settings.qdrant_read_consistency),
        )


DEFAULT_OPTIONS = ServerOptions({}, {}, {}, models.HnswConfigDiff(), None, None)
"""The server's."""


def connect(settings: QdrantSettings) -> AsyncQdrantClient:
    """A client, which connects at its first call. InvalidInput for a certificate that cannot be read."""
    key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None
    return AsyncQdrantClient(
        url=settings.qdrant_url,
        grpc_port=settings.qdrant_grpc_port,
        prefer_grpc=settings.qdrant_prefer_grpc,
        api_key=key,
        timeout=math.ceil(settings.qdrant_timeout_s),
        check_compatibility=False,
        **_authority(settings),
    )


def _authority(settings: QdrantSettings) -> dict[str, Any]:
    """Of the server's certificate, for gRPC and for REST."""
    path = settings.qdrant_ca
    if path is None:
        return {}
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"qdrant_ca: {path} cannot be read: {error.strerror}.", field="qdrant_ca") from error
    try:
        trusted = ssl.create_default_context(cadata=pem.decode("ascii", "replace"))
    except ssl.SSLError as error:
        raise InvalidInput(f"qdrant_ca: {path} holds no certificate that can be read.", field="qdrant_ca") from error
    return {"grpc_options": {"root_certificates": pem}, "verify": trusted}


def _search(settings: QdrantSettings, *, quantized: bool) -> models.SearchParams | None:
    quantization = models.QuantizationSearchParams(
        rescore=settings.qdrant_rescore, oversampling=settings.qdrant_oversampling
    )
    if not quantized and settings.qdrant_search_ef is None:
        return None
    return models.SearchParams(hnsw_ef=settings.qdrant_search_ef, quantization=quantization if quantized else None)


def _consistency(wanted: str | int | None) -> models.ReadConsistency | None:
    return _READ[wanted] if isinstance(wanted, str) else wanted
