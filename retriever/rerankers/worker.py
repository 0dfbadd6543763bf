"""The process that holds a cross-encoder: takes questions with texts from standard input, says their scores on standard output.

`python -m retriever.rerankers.worker MODEL [DEVICE]`; it ends when its input does, however the other side died.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

from mesh import logs
from mesh.errors import FailedPrecondition, Internal, MurpheyError, Overloaded
from retriever.stores.edge.wire import Inbox, Reply, write_frame

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from sentence_transformers import CrossEncoder

log = logs.get(__name__)

WAIT_S = 60.0
BATCH_TEXTS = 16


def main() -> None:
    """Loads the model, then answers until nobody asks any more."""
    logs.configure("retriever")
    model, device = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print must not come between answers
    inbox = Inbox(sys.stdin.fileno())
    try:
        _serve(model, device, inbox, sink)
    except BrokenPipeError:
        log.warning("retriever_gone")


def _serve(model: str, device: str, inbox: Inbox, sink: BinaryIO) -> None:
    try:
        encoder, version = _load(model, device)
    except Exception as error:
        write_frame(sink, 0, Reply(error=_cannot_load(model, error)))
        return
    write_frame(sink, 0, Reply(version))
    while not inbox.ended:
        for _, (question, texts) in inbox.take(WAIT_S):
            write_frame(sink, 0, _scored(encoder, question, texts))


def _load(model: str, device: str) -> tuple["CrossEncoder", str]:
    """The model with a digest of its weights. FailedPrecondition for one that gives a pair no single score."""
    import torch
    from sentence_transformers import CrossEncoder

    from retriever.embedders import weights

    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    encoder = CrossEncoder(model, device=device or "cpu", model_kwargs={"dtype": dtype})
    shape = _predict(encoder, "a question", ["a text", "another one"]).shape
    if shape != (2,):
        labels = shape[-1] if len(shape) > 1 else 0
        raise FailedPrecondition(
            f"The model {model} gives {labels} scores for a question and a text; a reranker gives one."
        )
    return encoder, weights.digest(encoder)


def _predict(encoder: "CrossEncoder", question: str, texts: Sequence[str]) -> "npt.NDArray[np.float32]":
    """Logits, (n,): the activations that turn them into shares make many of the best equal."""
    import torch

    pairs = [(question, text) for text in texts]
    return encoder.predict(
        pairs, batch_size=BATCH_TEXTS, activation_fn=torch.nn.Identity(), show_progress_bar=False, convert_to_numpy=True
    )


def _scored(encoder: "CrossEncoder", question: str, texts: Sequence[str]) -> Reply:
    import torch

    try:
        return Reply([float(score) for score in _predict(encoder, question, texts)])
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return Reply(error=Overloaded("The device has no memory left to rerank.", retry_after_s=5.0))
    except Exception as error:
        log.error("rerank_failed", error=type(error).__name__)
        return Reply(error=Internal(f"The reranker could not do it: {type(error).__name__}"))


def _cannot_load(model: str, error: Exception) -> MurpheyError:
    if isinstance(error, MurpheyError):
        return error
    reason = " ".join(str(error).split())[:300]
    return FailedPrecondition(
        f"The reranker {model} cannot be loaded as a sentence-transformers CrossEncoder: {reason}"
    )


if __name__ == "__main__":
    main()
