"""The benchmarks of load, faults, long runs and mutated input with tiny workloads: they measure, and nothing breaks."""

import pytest

from bench import faults, fuzz, load, soak
from bench.frame import Report
from bench.options import Options

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

QUICK = Options(1, quick=True)


def _median(report: Report, row: str) -> float:
    return next(found.median for found in report.rows if found.name == row)


def test_load() -> None:
    report = load.run(QUICK)
    assert _median(report, "capacity, closed loop") > 0
    assert sum(sum(one["statuses"].values()) for one in report.workload["curve"]) > 0
    assert {status for one in report.workload["curve"] for status in one["statuses"]} <= faults.EXPECTED


def test_faults() -> None:
    report = faults.run(QUICK)
    assert _median(report, "documents lost") == 0
    assert _median(report, "other statuses than expected") == 0
    assert {cell["fault"] for cell in report.workload["matrix"]} == {"latency", "full disk"}


def test_soak() -> None:
    report = soak.run(QUICK)
    assert report.workload["errors"] == {}
    assert set(report.workload["calls"]) == set(soak.RATES)


def test_fuzz() -> None:
    report = fuzz.run(QUICK, 0, 0, seed=11)
    assert report.workload["statuses"].get("UNKNOWN", 0) == 0
    assert report.workload["deaths"] == []
    assert _median(report, "requests") == fuzz.QUICK_REQUESTS
    assert _median(report, "documents") == fuzz.QUICK_DOCUMENTS
