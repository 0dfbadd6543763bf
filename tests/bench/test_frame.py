"""The frame of the benchmarks: medians, run-by-run ratios, targets, verdicts and the keys of the JSON."""

import json
from pathlib import Path

import pytest

from bench.frame import Reference, Report, Row, Target

PEER = Reference("a peer", (10.0, 20.0, 40.0))


def row(*figures: float, target: Target | None = None, reference: Reference | None = None) -> Row:
    return Row("something", "chunks/s", figures, reference, target)


def test_the_median_of_the_runs_counts() -> None:
    assert row(9.0, 1.0, 5.0).median == 5.0
    assert row(1.0, 2.0).median == 1.5


def test_ratios_and_differences_are_taken_run_by_run() -> None:
    """A run in which the machine was slow is slow for both: the ratio of medians would be 30 / 20."""
    compared = row(30.0, 40.0, 20.0, reference=PEER)
    assert compared.ratio == 2.0  # of 3, 2 and 0.5
    assert compared.difference == 20.0  # of 20, 20 and -20


def test_without_a_reference_there_is_no_ratio() -> None:
    assert row(1.0).ratio is None
    assert row(1.0).difference is None


@pytest.mark.parametrize(
    ("target", "passed"),
    [
        (Target("value", at_least=30.0), True),
        (Target("value", at_least=30.1), False),
        (Target("value", at_most=29.9), False),
        (Target("ratio", at_least=2.0), True),
        (Target("ratio", at_least=2.8), False),
        (Target("difference", at_most=20.0), True),
        (Target("difference", at_most=2.0), False),
        (None, None),
    ],
)
def test_verdicts(target: Target | None, passed: bool | None) -> None:
    assert row(30.0, 40.0, 20.0, target=target, reference=PEER).passed is passed


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="3"):
        row(1.0, 2.0, reference=PEER)
    with pytest.raises(ValueError, match="no reference"):
        row(1.0, target=Target("ratio", at_least=1.0))
    with pytest.raises(ValueError, match="never measured"):
        row()


def test_a_report_passes_when_no_judged_row_misses() -> None:
    good, bad = Target("value", at_least=1.0), Target("value", at_least=3.0)
    assert Report("x", (row(2.0, target=good), row(0.0)), {}, quick=False).passed
    assert not Report("x", (row(2.0, target=good), row(2.0, target=bad)), {}, quick=False).passed
    assert Report("x", (row(2.0, target=bad),), {}, quick=True).passed


def test_the_keys_of_the_json_are_stable() -> None:
    compared = row(30.0, 40.0, 20.0, target=Target("ratio", at_least=1.5), reference=PEER)
    found = Report("ingest", (compared, row(1.0)), {"chunks": 3}, quick=False, notes=("a note",)).as_json()
    assert found.keys() == {"benchmark", "finished", "machine", "workload", "quick", "rows", "notes", "passed"}
    assert found["machine"].keys() == {"cpu", "cores", "memory_gb", "system", "python", "load_1_min"}
    assert found["rows"][0] == {
        "name": "something",
        "unit": "chunks/s",
        "median": 30.0,
        "runs": [30.0, 40.0, 20.0],
        "reference": {"name": "a peer", "median": 20.0, "runs": [10.0, 20.0, 40.0]},
        "ratio": 2.0,
        "difference": 20.0,
        "target": {"judged": "ratio", "at_least": 1.5, "at_most": None},
        "passed": True,
    }
    assert found["rows"][1].keys() == found["rows"][0].keys()
    assert found["rows"][1]["reference"] is found["rows"][1]["target"] is None


def test_a_report_is_saved_by_name_and_time(tmp_path: Path) -> None:
    report = Report("search", (row(1.0),), {}, quick=True)
    path = report.save(tmp_path / "results")
    assert path.name.startswith("search-")
    assert path.name.endswith("-quick.json")
    assert json.loads(path.read_text()) == json.loads(json.dumps(report.as_json()))
