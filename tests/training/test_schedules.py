"""Learning rates over a run."""

import pytest

from training.pretraining.schedules import Schedule


def test_cosine_warms_up_and_ends_near_its_lowest() -> None:
    schedule = Schedule("cosine", 1.0, 0.1, 10, 110, 0.2)
    assert [schedule.at(step) for step in (0, 4, 9)] == [0.1, 0.5, 1.0]
    assert schedule.at(10) == 1.0
    assert schedule.at(60) == pytest.approx(0.55)
    assert schedule.at(109) == pytest.approx(0.1, abs=0.001)


def test_wsd_stays_at_its_peak_until_it_decays() -> None:
    schedule = Schedule("wsd", 2.0, 0.0, 0, 100, 0.2)
    assert {schedule.at(step) for step in range(80)} == {2.0}
    assert schedule.at(90) == pytest.approx(1.0)
    assert schedule.at(99) == pytest.approx(0.1)
