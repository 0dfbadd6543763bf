"""Late interaction on the tokens of the default embedder: a reranker that needs no model beside the one that is there.

Each word of the question looks for the one that is most like it in the passage (MaxSim; Khattab & Zaharia 2020, ColBERT). The
embedder was not trained for it, so that the search's own score counts as much as this one's. Measured against query likelihood
under the default generator's model and against cross-encoders in orchestrator/evaluation/README.md.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt

from retriever.embedding import Purpose
from retriever.reranking import Blend

NAME = "late-interaction"
SLICE_TEXTS = 8
"""In one go: about 60 ms of two cores, after which a call whose caller has left ends."""
Tokens = npt.NDArray[np.float32]
"""(tokens, dimensions), each row of length 1."""


class TokenVectors(Protocol):
    """A model that gives each token of a text a vector."""

    @property
    def version(self) -> str:
        """Changes when the same text could get other vectors."""
        ...

    def tokens(self, texts: Sequence[str], purpose: Purpose) -> list[Tokens]:
        """One array a text; of a question without special tokens. Blocks; one caller at a time."""
        ...


class LateInteraction:
    """MaxSim, in a thread of its own."""

    name = NAME
    blend = Blend(search_weight=1.0, spread=0.6)

    def __init__(self, model: TokenVectors) -> None:
        self.version = model.version
        self._model = model
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="late-interaction")

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """The mean, over the question's tokens, of the greatest cosine with a token of the text: -1 to 1."""
        loop = asyncio.get_running_loop()
        asked = (await loop.run_in_executor(self._thread, self._model.tokens, [question], Purpose.QUERY))[0]
        found: list[float] = []
        for start in range(0, len(texts), SLICE_TEXTS):
            part = texts[start : start + SLICE_TEXTS]
            found += await loop.run_in_executor(self._thread, self._score, asked, part)
        return found

    async def close(self) -> None:
        """Ends after the slice under way."""
        await asyncio.to_thread(self._thread.shutdown)

    def _score(self, asked: Tokens, texts: Sequence[str]) -> list[float]:
        return [max_similarity(asked, tokens) for tokens in self._model.tokens(texts, Purpose.DOCUMENT)]


def max_similarity(asked: Tokens, tokens: Tokens) -> float:
    """The mean of each question token's greatest cosine; 0 where either has no token."""
    if not len(asked) or not len(tokens):
        return 0.0
    return float((asked @ tokens.T).max(axis=1).mean())
