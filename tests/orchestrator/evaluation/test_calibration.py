"""The threshold below which questions are declined: chosen on one half of a set, told of the other."""

import json
from pathlib import Path

import pytest

from mesh.errors import InvalidInput
from orchestrator.evaluation.calibration import as_json, check, chosen
from orchestrator.evaluation.printing import print_calibration
from orchestrator.evaluation.sets import Part, Question
from tests.orchestrator.evaluation.sample import write_set
from tests.orchestrator.evaluation.test_cli import Eval, evaluate  # noqa: F401 - a fixture

NAMES = [f"q{number}" for number in range(400)]
OWN = [name for name in NAMES if Part.CALIBRATION.holds(name)]
OTHERS = [name for name in NAMES if Part.HELD_OUT.holds(name)]


def question(name: str, *, answerable: bool) -> Question:
    return Question(name, f"{name}?", {}, ("yes",) if answerable else (), answerable)


def test_it_keeps_the_wanted_share_of_the_calibration_half() -> None:
    questions = [question(name, answerable=True) for name in OWN[:100] + OTHERS[:50]]
    signals = {name: (place + 1) / 100 for place, name in enumerate(OWN[:100])} | dict.fromkeys(OTHERS[:50], 0.5)
    for keep, threshold, answered in ((1.0, 0.01, 1.0), (0.95, 0.06, 0.95), (0.5, 0.51, 0.5)):
        found = chosen(questions, signals, keep)
        assert found.threshold == pytest.approx(threshold)
        assert found.calibration.answered == answered
    assert found.held_out.answered == 0
    assert found.questions == {"calibration": (100, 0), "held-out": (50, 0)}


def test_what_it_does_is_told_of_questions_that_had_no_part_in_choosing_it() -> None:
    questions = [question(name, answerable=True) for name in OWN[:40] + OTHERS[:40]]
    questions += [question(name, answerable=False) for name in OWN[40:80] + OTHERS[40:60]]
    signals = dict.fromkeys(OWN[:40], 0.8) | dict.fromkeys(OWN[40:80], 0.1)
    signals |= dict.fromkeys(OTHERS[:30], 0.9) | dict.fromkeys(OTHERS[30:40], 0.3)
    signals |= dict.fromkeys(OTHERS[40:55], 0.2) | dict.fromkeys(OTHERS[55:60], 0.95)
    found = as_json(chosen(questions, signals, 0.95, "i1"), "ours")
    assert (found["minimum_relevance"], found["index"], found["set"]) == (0.8, "i1", "ours")
    assert found["calibration"]["abstention_f1"] == 1
    held_out = found["held_out"]
    assert (held_out["answerable"], held_out["unanswerable"], held_out["answered"]) == (40, 20, 0.75)
    assert (held_out["abstention_precision"], held_out["abstention_recall"]) == (0.6, 0.75)
    assert {point["threshold"] for point in found["held_out_curve"]} == {0.2, 0.3, 0.9, 0.95}


def test_a_few_questions_are_not_enough(evaluate: Eval, tmp_path: Path) -> None:  # noqa: F811 - a fixture
    with pytest.raises(InvalidInput, match="calibration half has 3 answerable questions; 20 are needed"):
        check([question(name, answerable=True) for name in OWN[:3] + OTHERS[:30]])
    check([question(name, answerable=True) for name in OWN[:20] + OTHERS[:20]])
    done = evaluate("calibrate", write_set(tmp_path / "pottery"))
    assert (done.exit_code, "Add questions that the documents answer" in " ".join(done.stderr.split())) == (2, True)


def test_without_a_mesh_it_says_how_to_start_one(evaluate: Eval, tmp_path: Path) -> None:  # noqa: F811 - a fixture
    rows = [{"_id": name, "text": f"{name}?"} for name in NAMES[:120]]
    answers = [{"_id": name, "answers": ["18 euros"]} for name in NAMES[:120]]
    files = {"queries": rows, "answers": answers}
    folder = write_set(tmp_path / "many", qrels="", **{k: "\n".join(map(json.dumps, v)) for k, v in files.items()})
    done = evaluate("calibrate", folder)
    assert (done.exit_code, "murphey up" in done.stderr) == (1, True)


def test_it_says_how_to_set_it(capsys: pytest.CaptureFixture[str]) -> None:
    questions = [question(name, answerable=True) for name in OWN[:20] + OTHERS[:20]]
    print_calibration(chosen(questions, dict.fromkeys(NAMES, 0.6123), 0.97))
    shown = capsys.readouterr()
    assert "minimum_relevance 0.612" in shown.out
    assert "MURPHEY_ORCHESTRATOR_MINIMUM_RELEVANCE=0.612" in shown.err
