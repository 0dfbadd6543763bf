"""Checkpoints: whole or not there, kept by policy, damage found."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from mesh.errors import Corrupt, FailedPrecondition
from training.pretraining.checkpoints import WEIGHTS, Checkpoints, Snapshot, clear_unfinished, listed, newest_whole


def snapshot(step: int, eval_loss: float | None = None) -> Snapshot:
    tensors = {"weight": torch.full((64,), float(step))}
    return Snapshot(step, tensors, tensors, {"hidden_size": 64}, {"eval_loss": eval_loss})


@pytest.fixture
def checkpoints(tmp_path: Path) -> Iterator[Checkpoints]:
    with closing(Checkpoints(tmp_path / "kept", keep_last=2, keep_every_steps=10)) as opened:
        yield opened


def steps(folder: Path) -> list[int]:
    return [each.step for each in listed(folder)]


def test_the_last_the_best_and_every_tenth_are_kept(tmp_path: Path, checkpoints: Checkpoints) -> None:
    for step, loss in ((2, 3.0), (4, 1.0), (6, 2.0), (10, 5.0), (12, 4.0), (14, 4.0)):
        checkpoints.save(snapshot(step, loss))
    checkpoints.wait()
    assert steps(tmp_path / "kept") == [4, 10, 12, 14]


def test_what_was_saved_is_read_again(tmp_path: Path, checkpoints: Checkpoints) -> None:
    checkpoints.save(snapshot(3))
    checkpoints.wait()
    found = newest_whole(tmp_path / "kept")
    assert found is not None
    with found.tensors(WEIGHTS) as weights:
        assert torch.equal(weights["weight"], torch.full((64,), 3.0))


@pytest.mark.parametrize("damage", ["cut", "changed", "no weights", "no state"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, checkpoints: Checkpoints, damage: str) -> None:
    for step in (3, 6):
        checkpoints.save(snapshot(step))
    checkpoints.wait()
    weights = tmp_path / "kept" / "step-00000006" / WEIGHTS
    content = weights.read_bytes()
    if damage == "cut":
        weights.write_bytes(content[:-8])
    elif damage == "changed":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        (weights if damage == "no weights" else weights.with_name("state.json")).unlink()
    found = newest_whole(tmp_path / "kept")
    assert found is not None
    assert found.step == 3
    shutil.rmtree(tmp_path / "kept" / "step-00000003")
    with pytest.raises(Corrupt, match="None of the 1 checkpoints"):
        newest_whole(tmp_path / "kept")


def test_what_a_dead_process_was_writing_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".writing-7-1").mkdir()
    assert newest_whole(tmp_path) is None
    clear_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_told_and_leaves_the_others(tmp_path: Path, checkpoints: Checkpoints) -> None:
    checkpoints.save(snapshot(3))
    checkpoints.wait()
    (tmp_path / "kept" / f".writing-6-{__import__('os').getpid()}").write_text("in the way")
    checkpoints.save(snapshot(6))
    with pytest.raises(FailedPrecondition, match="The checkpoint of step 6 could not be written"):
        checkpoints.wait()
    assert steps(tmp_path / "kept") == [3]
