"""Shapes are what they are called, and their counts are those of the real model."""

import pytest

from mesh.errors import InvalidInput
from training import presets


@pytest.mark.parametrize(
    ("preset", "vocabulary", "millions"),
    [
        ("nano", 4096, 1.3),
        ("small", 49152, 134.5),
        ("medium", 49152, 361.8),
        ("1b", 128_256, 1235.8),
        ("7b", 32_000, 7241.7),
    ],
)
def test_a_preset_has_the_parameters_of_the_model_it_is_shaped_like(
    preset: str, vocabulary: int, millions: float
) -> None:
    assert presets.parameters(presets.shape_of(preset), vocabulary) / 1e6 == pytest.approx(millions, abs=0.06)


def test_two_billion_are_two_billion() -> None:
    assert presets.parameters(presets.shape_of("2b"), 49_152) == pytest.approx(2e9, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"tied_embeddings": False, "kv_heads": 2}])
def test_counts_are_those_of_the_real_model(changes: dict[str, int | bool]) -> None:
    from transformers import LlamaForCausalLM

    shape = presets.shape_of("nano", **changes)
    model = LlamaForCausalLM(presets.llama_config(shape, 512, None, 0, None))
    assert sum(each.numel() for each in model.parameters()) == presets.parameters(shape, 512)


def test_a_shape_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInput, match="There is no preset 'huge'; there are nano"):
        presets.shape_of("huge")
    with pytest.raises(InvalidInput, match="heads 7"):
        presets.shape_of("nano", heads=7)
    with pytest.raises(InvalidInput, match="kv_heads, 3"):
        presets.shape_of("nano", kv_heads=3)


def test_sharding_and_bf16_take_less_memory() -> None:
    shape = presets.shape_of("7b")
    whole = presets.memory(shape, 32_000, 1, 4096, bf16=False)
    shared = presets.memory(shape, 32_000, 1, 4096, bf16=True, shards=8)
    assert whole.optimizer == 8 * presets.parameters(shape, 32_000)
    assert shared.total < whole.total / 3
