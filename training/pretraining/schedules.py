"""The learning rate over a run: a linear warm-up, then cosine or WSD (warm-up, stable, decay: Hu et al. 2024)."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """`lowest` is a share of `peak`. Of WSD the last `decay_share` of all steps falls linearly to it."""

    kind: Literal["cosine", "wsd"]
    peak: float
    lowest: float
    warmup_steps: int
    steps: int
    decay_share: float

    def at(self, step: int) -> float:
        """The learning rate of step `step`, from 0."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        if self.kind == "cosine":
            progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
            share = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        else:
            decay_steps = max(1, round(self.steps * self.decay_share))
            share = min(1.0, (self.steps - step) / decay_steps)
        return self.peak * (self.lowest + (1 - self.lowest) * share)
