"""The benchmark of training with a tiny workload: that it measures, not what."""

import math

import pytest

from bench import training
from bench.options import Options


@pytest.mark.slow
def test_speed_and_loss_are_measured_beside_their_references() -> None:
    speed, loss = training.run(Options(1, quick=True)).rows
    assert speed.median > 0
    assert speed.reference is not None
    assert speed.reference.figures[0] > 0
    assert 0 < loss.median < 1.1 * math.log(128)
