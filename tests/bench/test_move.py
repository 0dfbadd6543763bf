"""A few chunks moved to the stand-in for a Qdrant server, with the same answers."""

import pytest

from bench import move
from bench.options import Options


@pytest.mark.slow
def test_move() -> None:
    report = move.run(Options(runs=1, quick=True))
    seconds, same = (row.median for row in report.rows)
    assert seconds > 0
    assert same >= 99
