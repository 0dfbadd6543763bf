"""A sentence-transformers model on CPU, converted to OpenVINO; torch is never imported here.

A query runs on all cores at once, for its latency. A call for documents runs on one core, and as many calls at a time as
there are cores: cores that wait for each other lose a third when other processes want them too. Many queries at once run on
one core as well, where one is free: the others then have time for the searches that come before and after.
"""

import queue
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import openvino
import psutil
from tokenizers import Encoding, Tokenizer

from retriever.embedders import conversion
from retriever.embedding import Purpose, Slice, Vectors

LENGTH_STEP = 8
"""Lengths are rounded up to a multiple: OpenVINO prepares, and keeps, code for every shape that it meets."""
MAX_BATCH_TOKENS = 512
"""Padded tokens in one run of the network, 45 ms of one core: 8 % faster than 256. More gain little."""
RUN_TOKENS = 14
"""What a run of the network costs beside its tokens, in tokens: 0.9 ms of a core, and a token takes 62 µs."""
MANY_QUERIES = 4
"""On one core, where that is free."""


_Requests: TypeAlias = "queue.SimpleQueue[openvino.InferRequest]"


class OpenVinoEmbedder:
    """Texts to unit vectors, for any number of callers at a time: `slices_at_once` on a core each, and one on all."""

    def __init__(self, name: str, folder: Path, threads: int = 0, precision: str = "f32") -> None:
        about = conversion.description(folder)
        self.name, self.dimensions, self.max_tokens = name, about.dimensions, about.max_tokens
        self.version = about.weights
        self._prompts = {Purpose.QUERY: about.query_prompt, Purpose.DOCUMENT: about.document_prompt}
        self._tokenizer = Tokenizer.from_file(str(folder / conversion.TOKENIZER_FILE))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(about.max_tokens)
        model = folder / conversion.MODEL_FILE
        self._whole: _Requests = queue.SimpleQueue()
        self._whole.put(compiled(model, threads, precision, "LATENCY", 1).create_infer_request())
        self.slices_at_once = threads or psutil.cpu_count(logical=False) or 1
        split = compiled(model, self.slices_at_once, precision, "THROUGHPUT", self.slices_at_once)
        self._split: _Requests = queue.SimpleQueue()
        for _ in range(self.slices_at_once):
            self._split.put(split.create_infer_request())

    def embed(self, texts: Sequence[str], purpose: Purpose) -> Vectors:
        """(n, dimensions), in the order of the texts."""
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        slices = self._cut(texts, purpose)
        idle, request = self._request_for(len(texts), purpose)
        try:
            for cut in slices:
                vectors[cut.rows] = _run(request, cut)
        finally:
            idle.put(request)
        return vectors

    def cut(self, texts: Sequence[str]) -> list[Slice]:
        """Each as many padded tokens as the network works on best: slices of so many characters took 15 % longer."""
        return self._cut(texts, Purpose.DOCUMENT)

    def embed_slice(self, cut: Slice) -> Vectors:
        """(rows, dimensions), on one core."""
        request = self._split.get()
        try:
            return _run(request, cut)
        finally:
            self._split.put(request)

    def _cut(self, texts: Sequence[str], purpose: Purpose) -> list[Slice]:
        prompt = self._prompts[purpose]
        encodings = self._tokenizer.encode_batch_fast([prompt + text for text in texts] if prompt else list(texts))
        return [Slice(rows, padded([encodings[row] for row in rows])) for rows in batches(encodings)]

    def _request_for(self, texts: int, purpose: Purpose) -> tuple[_Requests, openvino.InferRequest]:
        """One that has nothing to do, and where it comes from. Queries do not wait for documents."""
        if purpose is Purpose.DOCUMENT:
            return self._split, self._split.get()
        with suppress(queue.Empty):
            if texts >= MANY_QUERIES:
                return self._split, self._split.get_nowait()
        return self._whole, self._whole.get()

    def close(self) -> None:
        """Frees the network."""
        del self._whole, self._split


def _run(request: openvino.InferRequest, cut: Slice) -> Vectors:
    request.infer(cut.prepared, share_inputs=True)
    return request.get_output_tensor(0).data.copy()


def compiled(
    model: Path | openvino.Model, threads: int, precision: str, hint: str, streams: int
) -> openvino.CompiledModel:
    """A network for this machine's CPU; 0 threads takes every core."""
    options: dict[str, object] = {
        "PERFORMANCE_HINT": hint,
        "NUM_STREAMS": streams,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": precision,
    }
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    return core().compile_model(model, "CPU", options)


@cache
def core() -> openvino.Core:
    """The process' only one, kept for good.

    Its plugin for CPUs gives the thread that loads it another stack for signals, and takes that away when it goes: where two of
    them went in the order in which they had come, or one went in another thread, the next signal, such as the one to stop,
    found no stack and ended the process with a segmentation fault (SigAltStackSetup in OpenVINO's intel_cpu/src/plugin.cpp).
    """
    return openvino.Core()


def batches(encodings: Sequence[Encoding]) -> Iterator[list[int]]:
    """Rows that go together, the longest first. A run ends where it is full, or where padding what follows to its length would
    cost more than another run does."""
    lengths = [_rounded(len(encoding)) for encoding in encodings]
    batch: list[int] = []
    for place, row in enumerate(sorted(range(len(lengths)), key=lambda row: -lengths[row])):
        if batch:
            longest = lengths[batch[0]]
            more = min(MAX_BATCH_TOKENS // longest - len(batch), len(lengths) - place)
            if more <= 0 or (longest - lengths[row]) * more > RUN_TOKENS:
                yield batch
                batch = []
        batch.append(row)
    if batch:
        yield batch


def _rounded(tokens: int) -> int:
    return -(-tokens // LENGTH_STEP) * LENGTH_STEP


def padded(encodings: Sequence[Encoding]) -> dict[str, npt.NDArray[np.int64]]:
    """Ids and mask, both (B, T). What stands in the padding is masked out."""
    longest = _rounded(max(map(len, encodings)))
    ids = np.zeros((len(encodings), longest), np.int64)
    mask = np.zeros_like(ids)
    for row, encoding in enumerate(encodings):
        ids[row, : len(encoding)] = encoding.ids
        mask[row, : len(encoding)] = 1
    return {"input_ids": ids, "attention_mask": mask}
