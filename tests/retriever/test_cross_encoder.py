"""A cross-encoder in its process: real checkpoints, tiny and made here, against sentence-transformers itself."""

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from mesh.errors import FailedPrecondition, Unavailable
from retriever.rerankers.process import CrossEncoderProcess

pytestmark = pytest.mark.slow

QUESTION = "where does the douro end"
TEXTS = ["the douro ends at porto", "a plate", "", "tea and milk " * 300, *(f"river number {row}" for row in range(20))]


def make(folder: Path, labels: int = 1) -> str:
    """A BERT of two small layers with random weights, as a sequence classifier."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    folder.mkdir()
    words = sorted({word for text in [QUESTION, *TEXTS] for word in text.split()})
    vocabulary = folder / "words.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    BertTokenizer(str(vocabulary), model_max_length=64).save_pretrained(folder)
    config = BertConfig(
        vocab_size=5 + len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    config.num_labels = labels
    torch.manual_seed(7)
    BertForSequenceClassification(config).eval().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make(tmp_path_factory.mktemp("models") / "tiny")


def expected(checkpoint: str, texts: Sequence[str]) -> list[float]:
    import torch
    from sentence_transformers import CrossEncoder

    encoder = CrossEncoder(checkpoint, device="cpu")
    pairs = [(QUESTION, text) for text in texts]
    return [float(score) for score in encoder.predict(pairs, activation_fn=torch.nn.Identity())]


async def test_scores_are_those_of_the_model_and_callers_get_their_own(checkpoint: str) -> None:
    reranker = await CrossEncoderProcess.open("tiny", checkpoint, "cpu")
    try:
        assert len(reranker.version) == 12
        whole, part = await asyncio.gather(reranker.scores(QUESTION, TEXTS), reranker.scores(QUESTION, TEXTS[:3]))
        assert whole == pytest.approx(expected(checkpoint, TEXTS), abs=1e-4)
        assert part == pytest.approx(whole[:3], abs=1e-4)
        assert max(whole) - min(whole) > 0.01
        left = asyncio.create_task(reranker.scores(QUESTION, TEXTS))
        await asyncio.sleep(0)
        left.cancel()
        assert await reranker.scores(QUESTION, TEXTS[:2]) == pytest.approx(whole[:2], abs=1e-4)
    finally:
        await reranker.close()


async def test_one_that_was_killed_is_started_again(checkpoint: str) -> None:
    reranker = await CrossEncoderProcess.open("tiny", checkpoint, "cpu")
    try:
        before = await reranker.scores(QUESTION, TEXTS[:2])
        os.kill(reranker.pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="stopped"):
            await reranker.scores(QUESTION, TEXTS[:2])
        assert await reranker.scores(QUESTION, TEXTS[:2]) == before
    finally:
        await reranker.close()


async def test_what_cannot_rerank_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="gives 3 scores"):
        await CrossEncoderProcess.open("three", make(tmp_path / "three", labels=3), "cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FailedPrecondition, match="cannot be loaded as a sentence-transformers CrossEncoder"):
        await CrossEncoderProcess.open("empty", str(tmp_path / "empty"), "cpu")
