"""A sentence-transformers model on CUDA in bfloat16, or on CPU where the model cannot be converted."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from mesh.errors import FailedPrecondition
from retriever.embedders import weights
from retriever.embedding import Purpose, Vectors

BATCH_TEXTS = 256


class TorchEmbedder:
    """Texts to unit vectors. Not thread-safe: one caller at a time."""

    def __init__(self, name: str, model: Path | str, device: str = "cuda") -> None:
        try:
            self._pipeline = SentenceTransformer(
                str(model), device=device, model_kwargs={"dtype": torch.float32}
            ).eval()
        except (OSError, ValueError) as error:
            raise FailedPrecondition(f"The embedder {name} cannot be loaded: {error}") from error
        self.name = name
        self.dimensions = int(self._pipeline.get_embedding_dimension() or 0)
        self.max_tokens = int(self._pipeline.max_seq_length or 512)
        self.version = weights.digest(self._pipeline)
        if device.startswith("cuda"):
            self._pipeline.to(torch.bfloat16)

    def embed(self, texts: Sequence[str], purpose: Purpose) -> Vectors:
        """(n, dimensions), in the order of the texts."""
        encode = self._pipeline.encode_query if purpose is Purpose.QUERY else self._pipeline.encode_document
        vectors = encode(
            list(texts),
            batch_size=BATCH_TEXTS,
            convert_to_numpy=True,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, np.float32)

    def close(self) -> None:
        """Frees the device's memory."""
        del self._pipeline
