"""A sentence-transformers model on CPU, converted to OpenVINO; torch is never imported here."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino
from tokenizers import Encoding, Tokenizer

from retriever.embedders import conversion
from retriever.embedding import Purpose, Vectors

MAX_BATCH_TOKENS = 1_024
"""Padded tokens in one run of the network: enough to fill the cores, and small enough to stay in their caches."""


class OpenVinoEmbedder:
    """Texts to unit vectors. Not thread-safe: one caller at a time."""

    def __init__(self, name: str, folder: Path, threads: int = 0, precision: str = "f32") -> None:
        about = conversion.description(folder)
        self.name, self.dimensions, self.max_tokens = name, about.dimensions, about.max_tokens
        self.version = about.weights
        self._prompts = {Purpose.QUERY: about.query_prompt, Purpose.DOCUMENT: about.document_prompt}
        self._tokenizer = Tokenizer.from_file(str(folder / conversion.TOKENIZER_FILE))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(about.max_tokens)
        self._request = _compiled(folder / conversion.MODEL_FILE, threads, precision).create_infer_request()

    def embed(self, texts: Sequence[str], purpose: Purpose) -> Vectors:
        """(n, dimensions), in the order of the texts."""
        prompt = self._prompts[purpose]
        encodings = self._tokenizer.encode_batch_fast([prompt + text for text in texts] if prompt else list(texts))
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for rows in _batches(encodings):
            self._request.infer(_padded([encodings[row] for row in rows]), share_inputs=True)
            vectors[rows] = self._request.get_output_tensor(0).data
        return vectors

    def close(self) -> None:
        """Frees the network."""
        del self._request


def _compiled(model: Path, threads: int, precision: str) -> openvino.CompiledModel:
    options: dict[str, object] = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": precision,
    }
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    return openvino.Core().compile_model(model, "CPU", options)


def _batches(encodings: Sequence[Encoding]) -> Iterator[list[int]]:
    """Rows that go together: of like length, so that little is padded, the longest first."""
    rows = sorted(range(len(encodings)), key=lambda row: -len(encodings[row]))
    batch: list[int] = []
    for row in rows:
        if batch and (len(batch) + 1) * len(encodings[batch[0]]) > MAX_BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _padded(encodings: Sequence[Encoding]) -> dict[str, npt.NDArray[np.int64]]:
    """Ids and mask, both (B, T). What stands in the padding is masked out."""
    longest = max(len(encoding) for encoding in encodings)
    ids = np.zeros((len(encodings), longest), np.int64)
    mask = np.zeros_like(ids)
    for row, encoding in enumerate(encodings):
        ids[row, : len(encoding)] = encoding.ids
        mask[row, : len(encoding)] = 1
    return {"input_ids": ids, "attention_mask": mask}
