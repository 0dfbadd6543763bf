"""A whole pretraining run of a tiny model: it learns, goes on after any end, and refuses what cannot be."""

import json
import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import AlreadyExists, FailedPrecondition, InvalidInput
from tests.training.processes import pretrain_apart
from tests.training.tiny import SETTINGS
from training.pretraining.plan import make_plan
from training.pretraining.pretrain import pretrain
from training.pretraining.processes import open_processes
from training.pretraining.records import read_metrics
from training.pretraining.run_folder import open_run
from training.pretraining.settings import PretrainSettings, pretrain_settings

pytestmark = pytest.mark.slow


def settings(shards: Path, **changes: Any) -> PretrainSettings:
    return pretrain_settings(**(SETTINGS | {"data": shards} | changes))


def losses(out: Path, name: str = "loss") -> dict[int, float]:
    return {line["step"]: line[name] for line in read_metrics(out / "metrics.jsonl") if name in line}


def test_it_learns_and_leaves_a_model_a_curve_and_a_plot(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome = pretrain_apart(settings(shards, steps=60, sample_every_steps=60, tensorboard=True), out)
    curve = losses(out)
    assert list(curve) == list(range(1, 61))
    assert curve[1] == pytest.approx(math.log(320), abs=0.3)
    assert outcome.eval_loss is not None
    assert outcome.eval_loss < 0.6 * curve[1]
    last = list(read_metrics(out / "metrics.jsonl"))[-1]
    assert last["sample_0"].startswith("The")
    assert 0 < last["mfu"] < 1
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert any((out / "tensorboard").iterdir())

    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(outcome.checkpoint)
    assert model.config.vocab_size == 320
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_killed_at_ten_random_steps_the_curve_is_that_of_an_unbroken_run(shards: Path, tmp_path: Path) -> None:
    told = settings(shards, steps=44, checkpoint_every_steps=3, log_every_steps=1)
    pretrain_apart(told, tmp_path / "unbroken")
    for step in sorted(random.Random().sample(range(1, 44), 10)):
        with pytest.raises(EOFError):
            pretrain_apart(told, tmp_path / "broken", (step, signal.SIGKILL))
    pretrain_apart(told, tmp_path / "broken")
    unbroken, broken = losses(tmp_path / "unbroken"), losses(tmp_path / "broken")
    assert list(broken) == list(unbroken)
    assert max(abs(broken[step] - unbroken[step]) for step in unbroken) <= 1e-5
    assert losses(tmp_path / "broken", "eval_loss") == pytest.approx(
        losses(tmp_path / "unbroken", "eval_loss"), abs=1e-5
    )


@pytest.mark.e2e
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_learns_and_one_goes_on_after_two(
    shards: Path, tmp_path: Path, parallel: str
) -> None:
    alone = settings(shards, micro_batch=8, steps=8)
    pretrain_apart(alone, tmp_path / "one")
    file = tmp_path / "run.toml"
    values = SETTINGS | {"data": str(shards), "steps": 8, "micro_batch": 2, "parallel": parallel}
    file.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items()))
    command = [sys.executable, "-m", "mesh.cli", "train", "pretrain", str(file), "--out", str(tmp_path / "two")]
    done = subprocess.run(
        [*command[:1], "-c", "from mesh.cli import main; main()", *command[3:], "--processes", "2"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(two) == list(one)
    assert max(abs(one[step] - two[step]) for step in one) <= 1e-4
    last = tmp_path / "two" / "checkpoints" / "step-00000008"
    for path in last.iterdir():
        path.unlink()
    last.rmdir()
    pretrain_apart(settings(shards, micro_batch=4, steps=8), tmp_path / "two")
    assert max(abs(one[step] - loss) for step, loss in losses(tmp_path / "two").items()) <= 1e-4


def test_it_stops_when_the_loss_is_no_number_and_keeps_the_batch(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(FailedPrecondition, match=r"At step \d+ the loss is .* the batch is in .*bad-batch"):
        pretrain_apart(settings(shards, learning_rate=1e30, warmup_steps=0, checkpoint_every_steps=1), out)

    from safetensors.numpy import load_file

    (kept,) = out.glob("bad-batch-*.safetensors")
    step = int(kept.name.split("-")[2])
    assert load_file(kept)["inputs"].shape == (8, 64)
    assert [path.name for path in (out / "checkpoints").iterdir() if path.name > f"step-{step:08d}"] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_step_with_a_checkpoint(shards: Path, tmp_path: Path, number: int) -> None:
    outcome = pretrain_apart(settings(shards), tmp_path / "run", (2, number))
    assert (outcome.finished, outcome.steps) == (False, 3)
    assert outcome.checkpoint.is_dir()
    again = pretrain_apart(settings(shards), tmp_path / "run")
    assert (again.finished, again.steps) == (True, 12)
    assert list(losses(tmp_path / "run")) == list(range(1, 13))


def test_a_run_that_died_while_it_began_begins_anew(shards: Path, tmp_path: Path) -> None:
    """That is also what the second of several processes sees while the first one makes the folder."""
    told = settings(shards)
    with open_processes(told) as processes:
        plan = make_plan(told, processes.bf16, processes.count)
    (tmp_path / "run.writing").write_text("{")
    assert open_run(tmp_path, told, plan, {}, writes=False).first_step == 0
    assert open_run(tmp_path, told, plan, {}, writes=True).first_step == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert open_run(tmp_path, told, plan, {}, writes=False).first_step == 0


def test_a_run_goes_on_only_as_it_was_begun(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    pretrain_apart(settings(shards, steps=4), out)
    with pytest.raises(FailedPrecondition, match=r"learning_rate \(was 0.003, is 0.1\)"):
        pretrain(settings(shards, steps=4, learning_rate=0.1), out)
    with pytest.raises(FailedPrecondition, match=r"layers \(was 2, is 3\)"):
        pretrain(settings(shards, steps=4, layers=3), out)
    config = out / "checkpoints" / "step-00000004" / "config.json"
    state = config.with_name("state.json")
    told = json.loads(state.read_text())
    del told["files"]["config.json"]
    state.write_text(json.dumps(told))
    config.write_text(config.read_text().replace('"hidden_size": 64', '"hidden_size": 128'))
    with pytest.raises(FailedPrecondition, match="is of another model: hidden_size 128 instead of 64"):
        pretrain(settings(shards, steps=4), out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(AlreadyExists, match="is no pretraining run; nothing was overwritten"):
        pretrain(settings(shards), tmp_path / "other")


def test_what_cannot_work_is_told_before_the_first_step(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    with pytest.raises(InvalidInput, match="a sequence takes"):
        pretrain(settings(shards, context_tokens=100_000), tmp_path / "run")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(InvalidInput, match="3 processes with micro_batch 4 cannot share: make it a multiple of 12"):
        pretrain(settings(shards), tmp_path / "run")
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with pytest.raises(FailedPrecondition, match=r"0 MB free; about \d+ MB are needed"):
        pretrain(settings(shards), tmp_path / "run")
    assert not (tmp_path / "run").exists()
