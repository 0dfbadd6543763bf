"""Perplexity is what it is called, and the gate lets pass what is not worse and better where it must be."""

import math
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import InvalidInput
from orchestrator.evaluation.comparison import Comparison
from tests.training.tiny import sentences
from training.evaluating.gate import reasons_against
from training.evaluating.perplexity import _windows, perplexity


def compared(metric: str, low: float, high: float) -> Comparison:
    return Comparison(metric, 0.5, 0.5 + (low + high) / 2, low, high, ())


def test_a_gate_is_passed_when_nothing_is_worse_and_what_is_named_is_better() -> None:
    better, same, worse = compared("f1", 0.01, 0.05), compared("em", -0.02, 0.03), compared("contains", -0.1, -0.01)
    assert reasons_against([better, same], ["f1"]) == []
    assert reasons_against([better, same], ["em"]) == [
        "not better: em 0.500 → 0.505 (95 % of the gain: -0.020 to +0.030)"
    ]
    (reason,) = reasons_against([better, worse], ["f1"])
    assert reason.startswith("worse: contains 0.500 → 0.445")
    with pytest.raises(InvalidInput, match="speed is not compared; compared are f1"):
        reasons_against([better], ["speed"])


@pytest.mark.parametrize("length", [2, 8, 9, 12, 40, 41])
def test_every_token_but_the_first_is_predicted_once_with_half_a_context(length: int) -> None:
    ids, predicted = list(range(length)), []
    for window, first in _windows(ids, 8):
        assert len(window) <= 8
        assert first == 1 or first >= 4
        predicted += window[first:]
    assert predicted == ids[1:]


@pytest.mark.slow
def test_perplexity_is_that_of_the_models_own_loss(trained: Path, shards: Path) -> None:
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    text = sentences(1, seed=9)[0]
    found = perplexity(trained, [text, text], shards / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(shards / "tokenizer")
    model: Any = LlamaForCausalLM.from_pretrained(trained)
    ids = torch.tensor([[256, *tokenizer(text, add_special_tokens=False)["input_ids"]]])
    with torch.no_grad():
        loss = float(model(input_ids=ids, labels=ids).loss)
    assert found.nats_per_token == pytest.approx(loss, abs=1e-4)
    assert found.perplexity == pytest.approx(math.exp(loss), rel=1e-3)
    assert found.bits_per_byte == pytest.approx(loss / math.log(2), abs=1e-3), "a token is a byte here"
    assert found.tokens == 2 * len(text)
    with pytest.raises(InvalidInput, match="There is no text to predict"):
        perplexity(trained, [""], shards / "tokenizer")
