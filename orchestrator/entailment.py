"""Asks a cross-encoder for natural-language inference whether words of a source entail a sentence (optional).

Any sentence-transformers CrossEncoder that has a label `entailment` will do, such as `cross-encoder/nli-deberta-v3-small`. It
runs on a thread of its own, one batch at a time; torch is loaded only where such a model is set.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mesh.errors import FailedPrecondition, Overloaded

MAX_WAITING = 64


class CrossEncoderEntailment:
    """Implements `attribution.Entails`."""

    def __init__(self, model: str) -> None:
        """`model` is a folder or a hub id. FailedPrecondition when it cannot be loaded or knows no entailment."""
        self._encoder, self._label = _loaded(model)
        self._thread = ThreadPoolExecutor(1, "entailment")
        self._waiting = 0

    async def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """For each premise and sentence the probability of entailment, 0 to 1. Overloaded when too many wait."""
        if self._waiting >= MAX_WAITING:
            raise Overloaded("Too many sentences wait to be judged. Try again in a second.", retry_after_s=1.0)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._judged, list(pairs))
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _judged(self, pairs: list[tuple[str, str]]) -> list[float]:
        scores = self._encoder.predict(pairs, apply_softmax=True, show_progress_bar=False)
        return [float(row[self._label]) for row in scores]


def _loaded(model: str) -> tuple[Any, int]:
    from sentence_transformers import CrossEncoder  # takes seconds, and most orchestrators need none

    where = Path(model).expanduser()
    try:
        encoder = CrossEncoder(str(where) if where.exists() else model)
    except (OSError, ValueError) as error:
        raise FailedPrecondition(f"The entailment model {model!r} cannot be loaded: {error}") from error
    config: Any = encoder.config
    labels = {str(name).casefold(): int(place) for place, name in (config.id2label or {}).items()}
    if "entailment" not in labels:
        raise FailedPrecondition(
            f"The entailment model {model!r} has the labels {sorted(labels)} and none of them is entailment: name a "
            "cross-encoder for natural-language inference."
        )
    return encoder, labels["entailment"]
