"""Settings that cannot be, or contradict each other, are refused with what to change."""

from pathlib import Path
from typing import Any

import pytest

from mesh.errors import InvalidInput, NotFound
from training.pretraining.settings import pretrain_settings, read_settings


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"stepz": 3}, "stepz: Extra inputs are not permitted"),
        ({"steps": 0}, "steps: Input should be greater than or equal to 1"),
        ({"preset": "huge"}, "There is no preset 'huge'"),
        ({"heads": 5}, "heads 5"),
        ({"sequence_tokens": 512}, "sequence_tokens is 512, beyond the model's context_tokens, 256"),
        ({"warmup_steps": 100}, "warmup_steps is 100; it must be less than steps, 100"),
        ({"batch_sequences": 9}, "batch_sequences, 9, is no multiple of micro_batch, 8"),
        ({"decay_share": 0.3}, "decay_share is set, which the schedule cosine does not have"),
        ({"precision": "float8"}, "precision: Input should be 'auto', 'float32' or 'bfloat16'"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        pretrain_settings(**({"data": "shards", "steps": 100, "warmup_steps": 10} | values))


def test_a_file_with_changes_put_over_it(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('data = "shards"\nsteps = 100\nwarmup_steps = 10\n')
    read = read_settings(file, ["steps=200", "preset=small", "compile=true"])
    assert (read.steps, read.preset, read.compile, read.length) == (200, "small", True, 2048)
    with pytest.raises(InvalidInput, match="'steps' is not of the form name=value"):
        read_settings(file, ["steps"])
    file.write_text("steps = ")
    with pytest.raises(InvalidInput, match=r"run\.toml is not valid TOML"):
        read_settings(file)
    with pytest.raises(NotFound):
        read_settings(tmp_path / "none.toml")
