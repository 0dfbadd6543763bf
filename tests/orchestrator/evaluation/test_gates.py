"""Gates: what they hold a run to, and what is said of one that cannot be read."""

import pytest

from mesh.errors import InvalidInput
from orchestrator.evaluation.gates import judge, parse_gate

KNOWN = ("ndcg@10", "total_ms_p95")


@pytest.mark.parametrize(
    ("text", "value", "passed"),
    [
        ("ndcg@10>=0.46", 0.46, True),
        ("ndcg@10 >= .46", 0.4599, False),
        ("ndcg@10>0.46", 0.46, False),
        ("total_ms_p95<=1e3", 1000.0, True),
        ("total_ms_p95<1000", 1000.0, False),
        ("ndcg@10>=-1", None, False),
    ],
)
def test_a_gate_holds_or_fails(text: str, value: float | None, passed: bool) -> None:
    gate = parse_gate(text, KNOWN)
    (judged,) = judge([gate], {gate.metric: value})
    assert (judged.passed, judged.value) == (passed, value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ndcg@10", "cannot be read"),
        ("", "cannot be read"),
        ("ndcg@10==0.4", "cannot be read"),
        ("ndcg@10>=0.4>=0.3", "cannot be read"),
        ("ndcg@10>=high", "'high', which is not a number"),
        ("ndcg@10>=nan", "'nan', which is not a number"),
        ("ndcg@10>=inf", "'inf', which is not a number"),
        ("precision@7>=0.4", "names no metric of this evaluation. They are: ndcg@10, total_ms_p95"),
    ],
)
def test_a_gate_that_cannot_be_read(text: str, words: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse_gate(text, KNOWN)
    assert words in raised.value.message
