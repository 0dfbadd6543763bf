"""The torch embedder against sentence-transformers itself: on this machine's CPU, and on CUDA where there is a device."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mesh.errors import FailedPrecondition, Overloaded
from mesh.weights import resolve
from retriever.app import open_embedder
from retriever.embedding import Embedder, Purpose, Vectors
from retriever.settings import RetrieverSettings

pytestmark = pytest.mark.slow

NAME = RetrieverSettings.model_fields["embedder"].default
TEXTS = [
    "a", "", "The mouth of the Douro.", "größer, naïve — 東京 🚀", "word " * 600,
    *(f"Flow number {index} over a {'very ' * (index % 7)}flat plate at Mach {index / 10}." for index in range(40)),
]  # fmt: skip
DEVICES = [("cpu", "float32", 0.99999), ("cpu", "bfloat16", 0.99)]
if Path("/dev/nvidiactl").exists():
    DEVICES.append(("cuda", "bfloat16", 0.99))


@pytest.fixture(scope="module")
def reference(models: Path) -> Vectors:
    """By sentence-transformers in float32."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(resolve(NAME, models)), device="cpu")
    return np.asarray(model.encode(TEXTS, normalize_embeddings=True), np.float32)


@pytest.fixture(scope="module", params=DEVICES, ids=lambda device: f"{device[0]}-{device[1]}")
def embedder(request: pytest.FixtureRequest, models: Path) -> Iterator[tuple[Any, float]]:
    import torch

    from retriever.embedders.torch import TorchEmbedder

    device, dtype, least = request.param
    made = TorchEmbedder(NAME, resolve(NAME, models), device, getattr(torch, dtype))
    yield made, least
    made.close()


def test_vectors_are_those_of_the_model(embedder: tuple[Embedder, float], reference: Vectors) -> None:
    made, least = embedder
    vectors = made.embed(TEXTS, Purpose.DOCUMENT)
    assert (vectors.shape, vectors.dtype) == ((len(TEXTS), made.dimensions), np.float32)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    assert (vectors * reference).sum(1).min() >= least


def test_it_is_the_same_embedder_as_on_a_cpu(embedder: tuple[Embedder, float], models: Path) -> None:
    usual = open_embedder(RetrieverSettings(models=models, device="cpu"))
    made, _ = embedder
    assert (made.name, made.version, made.dimensions, made.max_tokens) == (
        usual.name, usual.version, usual.dimensions, usual.max_tokens,
    )  # fmt: skip
    usual.close()


def test_when_memory_is_short_smaller_batches_are_run(embedder: tuple[Any, float], reference: Vectors) -> None:
    """Memory that holds 8 texts, then none: the network refuses more, as a full device does."""
    import torch

    made, least = embedder
    room, seen = 8, []

    def allocate(module: Any, inputs: tuple[dict[str, Any]]) -> None:
        seen.append(len(inputs[0]["input_ids"]))
        if seen[-1] > room:
            raise torch.OutOfMemoryError(f"no memory for {seen[-1]} texts")

    hook = made._pipeline[0].register_forward_pre_hook(allocate)
    try:
        vectors = made.embed(TEXTS, Purpose.DOCUMENT)
        assert (vectors * reference).sum(1).min() >= least
        after = len(seen)
        made.embed(TEXTS, Purpose.DOCUMENT)
        assert max(seen[after:]) == 8  # it does not try again what did not fit
        room = 0
        with pytest.raises(Overloaded):
            made.embed(["a"], Purpose.QUERY)
    finally:
        hook.remove()


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    from retriever.embedders.torch import TorchEmbedder

    with pytest.raises(FailedPrecondition, match="cannot be loaded"):
        TorchEmbedder("nothing", tmp_path, "cpu")
