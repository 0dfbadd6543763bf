"""Runs from one file: refused when they cannot be, and steps left out while their inputs are unchanged."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from mesh import weights
from mesh.errors import InvalidInput
from tests.training.processes import pretrain_apart
from tests.training.test_rows import labelled_set
from tests.training.tiny import sentences, write_corpus
from training.exporting.registry import Registered
from training.pretraining.pretrain import Outcome
from training.pretraining.settings import PretrainSettings
from training.runs.run_file import read_run
from training.runs.running import run_all
from training.runs.steps import Workshop

RUN = """
name = "tiny"
corpus = ["corpus"]

[prepare]
quality = false
near_duplicates = false

[new_tokenizer]
vocabulary = 310

[pack]
validation_share = 0.1

[pretrain]
hidden = 64
layers = 2
heads = 2
kv_heads = 2
feed_forward = 96
context_tokens = 4096
sequence_tokens = 64
steps = 8
warmup_steps = 2
batch_sequences = 4
micro_batch = 4
tensorboard = false
device = "cpu"

[cited]
sets = ["set"]
part = "all"

[finetune]
steps = 2
batch_rows = 2
micro_batch = 2
max_tokens = 4096
device = "cpu"

[export]
openvino = ["int8"]
dtype = "float32"
"""


def write_run(folder: Path, text: str = RUN) -> Path:
    write_corpus(folder / "corpus" / "a.jsonl.zst", sentences(300))
    labelled_set(folder / "set")
    (folder / "run.toml").write_text(text)
    return folder / "run.toml"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("layers = 2", "layer = 2", "pretrain.layer: Extra inputs are not permitted"),
        ("[cited]", "[citet]", "citet: Extra inputs are not permitted"),
        ('name = "tiny"', 'name = "Tiny!"', "name: String should match pattern"),
        ("steps = 8", "steps = 0", "pretrain.steps"),
        ("batch_rows = 2", "batch_rows = 3", "batch_rows, 3, is no multiple of micro_batch, 2"),
        ('corpus = ["corpus"]', 'corpus = ["korpus"]', "The run needs what is not there: .*korpus"),
        (
            'corpus = ["corpus"]',
            'corpus = ["corpus"]\ntokenizer = "set"',
            r"tokenizer and \[new_tokenizer\] are both set",
        ),
        ("[new_tokenizer]\nvocabulary = 310", "", r"\[pretrain\] needs corpus, and tokenizer or \[new_tokenizer\]"),
        ("hidden = 64", 'hidden = 64\ndata = "x"', r"\[pretrain\] sets data"),
        ("[finetune]", '[finetune]\nmodel = "x"', r"\[finetune\] sets model, which the step before it makes"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in RUN
    file = write_run(tmp_path, RUN.replace(old, new, 1))
    with pytest.raises(InvalidInput, match=told):
        read_run(file)
    assert not (tmp_path / "runs").exists()


def test_a_step_is_done_again_only_when_its_inputs_change(tmp_path: Path) -> None:
    done: list[str] = []
    source = tmp_path / "source.txt"
    source.write_text("one")
    shop = Workshop(tmp_path / "run", lambda step, what: done.append(f"{step} {what.split()[0]}"))

    def work(folder: Path) -> dict[str, Any]:
        folder.mkdir()
        return {"size": source.stat().st_size}

    first = shop.step("count", {"a": 1}, [source], work)
    again = shop.step("count", {"a": 1}, [source], work)
    assert (again.folder, again.facts, again.skipped) == (first.folder, {"size": 3}, True)
    source.write_text("three")
    changed = shop.step("count", {"a": 1}, [source], work)
    assert (changed.folder != first.folder, changed.skipped) == (True, False)
    assert shop.step("after", {}, [changed], work).folder != shop.step("after", {}, [first], work).folder
    assert done[:3] == ["count begins", "count done", "count unchanged"]
    assert len((tmp_path / "run" / "steps.jsonl").read_text().splitlines()) == 4


@pytest.mark.slow
def test_what_was_broken_off_or_removed_is_made_again(trained: Path, tmp_path: Path) -> None:
    file, told = write_run(tmp_path, RUN[: RUN.index("[cited]")] + "[export]\ndtype = 'float32'\n"), list[str]()

    def pretrained(_: PretrainSettings, folder: Path) -> Outcome:
        folder.mkdir(exist_ok=True)
        return Outcome(trained, 8, 1.0, None, True)

    def run(models: str) -> Registered:
        told.clear()
        made = run_all(
            read_run(file), tmp_path / models, pretrained, lambda step, what: told.append(f"{step} {what.split()[0]}")
        )
        assert isinstance(made, Registered)
        assert (made.folder / "huggingface" / "config.json").is_file()
        return made

    made = run("models")
    for step in ("tokenizer", "pack"):
        (done,) = (tmp_path / "runs" / "tiny").glob(f"{step}-*.done.json")
        done.unlink()
    shutil.rmtree(made.folder)
    assert run("models").folder == made.folder
    assert [line for line in told if line.endswith("begins")] == ["tokenizer begins", "pack begins", "export begins"]
    assert run("elsewhere").folder.is_relative_to(tmp_path / "elsewhere")


@pytest.mark.slow
def test_a_run_goes_from_text_to_a_registered_model_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    file, told = write_run(tmp_path), list[str]()

    def run() -> Registered:
        made = run_all(
            read_run(file), tmp_path / "models", pretrain_apart, lambda step, what: told.append(f"{step}: {what}")
        )
        assert isinstance(made, Registered)
        return made

    made = run()
    assert [line for line in told if line.endswith("begins")] == [
        f"{step}: begins" for step in ("prepare", "tokenizer", "pack", "pretrain", "cited", "finetune", "export")
    ]
    found = weights.resolve("tiny", tmp_path / "models")
    assert isinstance(found, Path)
    assert (found / "openvino_model.xml").is_file()
    card = (found / "README.md").read_text()
    assert "tokens of" in card
    assert str(tmp_path) not in card
    told.clear()
    assert run() == made
    assert {line.partition(": ")[2] for line in told} == {"unchanged"}
    file.write_text(RUN.replace("[finetune]\nsteps = 2", "[finetune]\nsteps = 3"))
    told.clear()
    assert run().version == "v2"
    assert [line.partition(":")[0] for line in told if line.endswith("unchanged")] == [
        "prepare",
        "tokenizer",
        "pack",
        "pretrain",
        "cited",
    ]
