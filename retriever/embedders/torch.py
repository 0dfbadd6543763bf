"""A sentence-transformers model by torch: on CUDA in bfloat16, or on a CPU in float32."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from mesh import logs
from mesh.errors import FailedPrecondition, Overloaded
from retriever.embedders import weights
from retriever.embedding import Purpose, Slice, Vectors, slices_by_length

log = logs.get(__name__)

MOST_TEXTS = 256
"""In one run of the network, when the device's memory allows."""
CPU_SLICE_CHARACTERS, CUDA_SLICE_CHARACTERS = 2_000, 200_000
"""Documents between which a query can come: tens of milliseconds on either."""


class TorchEmbedder:
    """Texts to unit vectors. Not thread-safe: one caller at a time."""

    slices_at_once = 1

    def __init__(self, name: str, model: Path | str, device: str = "cuda", dtype: torch.dtype | None = None) -> None:
        """`dtype` of weights and activations: bfloat16 on CUDA, float32 on a CPU. FailedPrecondition: cannot be loaded."""
        try:
            pipeline = SentenceTransformer(str(model), device=device, model_kwargs={"dtype": torch.float32}).eval()
        except (OSError, ValueError) as error:
            raise FailedPrecondition(f"The embedder {name} cannot be loaded: {error}") from error
        self.name = name
        self.dimensions = int(pipeline.get_embedding_dimension() or 0)
        self.max_tokens = int(pipeline.max_seq_length or 512)
        self.version = weights.digest(pipeline)
        self._pipeline = pipeline.to(dtype or (torch.bfloat16 if device.startswith("cuda") else torch.float32))
        self._batch_texts = MOST_TEXTS
        self._slice_characters = CUDA_SLICE_CHARACTERS if device.startswith("cuda") else CPU_SLICE_CHARACTERS

    def embed(self, texts: Sequence[str], purpose: Purpose) -> Vectors:
        """(n, dimensions), in the order of the texts. Overloaded when the device has no memory for a single one."""
        while True:
            try:
                return self._embed(list(texts), purpose)
            except torch.OutOfMemoryError as error:
                if self._batch_texts == 1:
                    raise Overloaded("The device has no memory left to embed one text.", retry_after_s=5.0) from error
                self._batch_texts //= 2
                log.warning("embedding_batch_halved", texts=self._batch_texts)
            torch.cuda.empty_cache()  # here the error, and with it what the failed run held, is gone

    def cut(self, texts: Sequence[str]) -> list[Slice]:
        """Texts of like length; as they are."""
        return list(slices_by_length(texts, MOST_TEXTS, self._slice_characters))

    def embed_slice(self, cut: Slice) -> Vectors:
        """(rows, dimensions)."""
        return self.embed(cut.prepared, Purpose.DOCUMENT)

    def _embed(self, texts: list[str], purpose: Purpose) -> Vectors:
        encode = self._pipeline.encode_query if purpose is Purpose.QUERY else self._pipeline.encode_document
        vectors = encode(texts, batch_size=self._batch_texts, convert_to_tensor=True, show_progress_bar=False)
        exact = torch.nn.functional.normalize(
            vectors.to(torch.float32), dim=-1
        )  # in bfloat16 lengths would be 1 ± 0.004
        return exact.cpu().numpy().astype(np.float32, copy=False)

    def close(self) -> None:
        """Frees the device's memory."""
        del self._pipeline


class TorchTokenVectors:
    """The vectors of single tokens, before they are pooled into one. One caller at a time."""

    def __init__(self, name: str, model: Path | str, device: str = "cuda", dtype: torch.dtype | None = None) -> None:
        """As TorchEmbedder."""
        self._embedder = TorchEmbedder(name, model, device, dtype)
        self.version = self._embedder.version

    def tokens(self, texts: Sequence[str], purpose: Purpose) -> list[Vectors]:
        """(tokens, dimensions) of each text, each row of length 1; of a question without the tokens at its two ends."""
        pipeline = self._embedder._pipeline
        encode = pipeline.encode_query if purpose is Purpose.QUERY else pipeline.encode_document
        found: Any = encode(
            list(texts), output_value="token_embeddings", convert_to_numpy=False, show_progress_bar=False
        )
        unit = [torch.nn.functional.normalize(each.to(torch.float32), dim=-1).cpu().numpy() for each in found]
        return [each[1:-1] for each in unit] if purpose is Purpose.QUERY else unit
