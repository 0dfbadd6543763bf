"""Unit costs of words on a tiny shard: that they are measured, not what."""

import pytest

from bench import words
from bench.options import Options


@pytest.mark.slow
def test_words() -> None:
    report = words.run(Options(runs=1, quick=True))
    small, large, different, fields_bytes = (row.median for row in report.rows)
    assert small > 0
    assert large > 0
    assert 20 < different < words.WINDOW_CHARACTERS / 2
    assert fields_bytes > 0
