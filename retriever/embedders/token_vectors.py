"""The vectors of single tokens: what a sentence-transformers model makes of a text before it pools them into one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino
from tokenizers import Encoding, Tokenizer

from mesh.errors import FailedPrecondition
from retriever.embedders import conversion
from retriever.embedders.openvino import batches, compiled, core, padded
from retriever.embedding import Purpose

Tokens = npt.NDArray[np.float32]
_TRANSFORMER = "__module.pipeline.0."
"""What the operations of the first module are called, in the converted form of a pipeline."""


class OpenVinoTokenVectors:
    """The tokens of an embedder that was converted to OpenVINO, on CPU. One caller at a time."""

    def __init__(self, name: str, folder: Path, threads: int = 0, precision: str = "f32") -> None:
        """FailedPrecondition for a model whose tokens cannot be told."""
        about = conversion.description(folder)
        self.version = about.weights
        self._prompts = {Purpose.QUERY: about.query_prompt, Purpose.DOCUMENT: about.document_prompt}
        self._tokenizer = Tokenizer.from_file(str(folder / conversion.TOKENIZER_FILE))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(about.max_tokens)
        model = core().read_model(folder / conversion.MODEL_FILE)
        model.add_outputs(_token_states(model, name))
        self._request = compiled(model, threads, precision, "LATENCY", 1).create_infer_request()

    def tokens(self, texts: Sequence[str], purpose: Purpose) -> list[Tokens]:
        """(tokens, dimensions) of each text, each row of length 1; of a question without special tokens."""
        prompt = self._prompts[purpose]
        encodings = self._tokenizer.encode_batch([prompt + text for text in texts])
        found: list[Tokens] = [np.empty((0, 0), np.float32)] * len(texts)
        for rows in batches(encodings):
            self._request.infer(padded([encodings[row] for row in rows]), share_inputs=True)
            states = self._request.get_output_tensor(1).data
            for place, row in enumerate(rows):
                found[row] = _kept(states[place], encodings[row], purpose)
        return found


def _kept(states: npt.NDArray[np.float32], encoding: Encoding, purpose: Purpose) -> Tokens:
    own = states[: len(encoding)]
    if purpose is Purpose.QUERY:
        own = own[np.asarray(encoding.special_tokens_mask, bool) == 0]
    lengths = np.linalg.norm(own, axis=1, keepdims=True)
    return own / np.maximum(lengths, 1e-9)


def _token_states(model: openvino.Model, name: str) -> openvino.Output:
    """The last output of the transformer, (batch, tokens, dimensions), which the pooling after it reads."""
    for operation in reversed(model.get_ordered_ops()):
        if not operation.get_friendly_name().startswith(_TRANSFORMER) or operation.get_output_size() != 1:
            continue
        output = operation.output(0)
        shape = output.get_partial_shape()
        leaves = any(
            not target.get_node().get_friendly_name().startswith(_TRANSFORMER) for target in output.get_target_inputs()
        )
        if leaves and shape.rank.is_static and shape.rank.get_length() == 3:
            return output
    raise FailedPrecondition(f"The embedder {name} does not show the vectors of its tokens: name another reranker.")
