"""Late interaction: its arithmetic, and the tokens' vectors of the real embedder on both of its engines."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from mesh.weights import resolve
from retriever.app import open_reranker
from retriever.embedding import Purpose
from retriever.rerankers.late_interaction import NAME, SLICE_TEXTS, LateInteraction, Tokens, max_similarity
from retriever.reranking import Reranker
from retriever.settings import RetrieverSettings
from tests.retriever.fakes import vector_of

TEXTS = [
    "The river Douro rises in Spain and ends at Porto.", "A flat plate at Mach 3.", "", "größer, naïve — 東京 🚀",
    "word " * 600, *(f"Number {row} of {'very ' * row}many." for row in range(20)),
]  # fmt: skip


class Words:
    """Each word a fixed direction."""

    version = "1"

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads = set[int]()

    def tokens(self, texts: Sequence[str], purpose: Purpose) -> list[Tokens]:
        self.batches.append(len(texts))
        self.threads.add(threading.get_ident())
        return [np.asarray([vector_of(word) for word in text.split()], np.float32) for text in texts]


def test_each_token_of_the_question_takes_its_best() -> None:
    asked = np.asarray([[1, 0], [0, 1]], np.float32)
    assert max_similarity(asked, np.asarray([[1, 0], [0.6, 0.8]], np.float32)) == pytest.approx(0.9)
    assert max_similarity(asked, np.empty((0, 2), np.float32)) == 0
    assert max_similarity(np.empty((0, 2), np.float32), asked) == 0


async def test_texts_are_read_in_slices_off_the_event_loop() -> None:
    words = Words()
    reranker = LateInteraction(words)
    texts = ["hot tea", "", *["cold milk"] * 2 * SLICE_TEXTS]
    scores = await reranker.scores("tea", texts)
    await reranker.close()
    assert scores[0] == pytest.approx(1) == max(scores)
    assert scores[1] == 0
    assert words.batches == [1, SLICE_TEXTS, SLICE_TEXTS, 2]
    assert threading.get_ident() not in words.threads


@pytest.mark.slow
async def test_the_default_reranker_finds_what_answers() -> None:
    reranker: Reranker = await open_reranker(RetrieverSettings(), NAME)
    try:
        scores = await reranker.scores("where does the Douro end?", TEXTS)
    finally:
        await reranker.close()
    assert np.argmax(scores) == 0
    assert np.isfinite(scores).all()
    assert len(reranker.version) == 12


@pytest.mark.slow
def test_tokens_are_the_same_on_both_engines() -> None:
    """The tokens are those before the pooling: a wrong output of the converted network would be far from torch's."""
    from retriever.app import _converted
    from retriever.embedders.token_vectors import OpenVinoTokenVectors
    from retriever.embedders.torch import TorchTokenVectors

    settings = RetrieverSettings(precision="f32")
    model = resolve(settings.embedder, settings.models)
    converted = OpenVinoTokenVectors(settings.embedder, *_converted(settings, model))
    torch = TorchTokenVectors(settings.embedder, model, device="cpu")
    assert converted.version == torch.version
    for purpose in Purpose:
        for mine, theirs in zip(converted.tokens(TEXTS, purpose), torch.tokens(TEXTS, purpose), strict=True):
            assert mine.shape == theirs.shape
            assert np.linalg.norm(mine, axis=1) == pytest.approx(1, abs=1e-4)
            assert (mine * theirs).sum(axis=1) == pytest.approx(1, abs=1e-2)
