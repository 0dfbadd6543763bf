"""Fine-tuning of a tiny model: it learns its answers, with all weights and with a LoRA, and from preferences."""

import json
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import AlreadyExists, FailedPrecondition, InvalidInput
from training.finetuning.finetune import Outcome, finetune
from training.finetuning.settings import finetune_settings
from training.pretraining.records import read_metrics

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning"),  # trl's, of transformers' old names
]


def chats(file: Path, count: int = 24) -> Path:
    rows = (
        {
            "messages": [
                {"role": "user", "content": f"Who sees boat {number}?"},
                {"role": "assistant", "content": "Ada sees it." if number % 2 else "Ben sees it."},
            ]
        }
        for number in range(count)
    )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def tuned(trained: Path, shards: Path, out: Path, **changes: Any) -> Outcome:
    values = {
        "model": str(trained), "tokenizer": shards / "tokenizer", "learning_rate": 3e-3, "batch_rows": 8, "steps": 12,
        "device": "cpu", "validation_share": 0.1,
    }  # fmt: skip
    return finetune(finetune_settings(**(values | changes)), out)


def weights_of(folder: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"]


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 4, "lora_alpha": 8, "learning_rate": 1e-2}])
def test_it_learns_the_answers(trained: Path, shards: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    outcome = tuned(trained, shards, tmp_path / "out", data=[chats(tmp_path / "a.jsonl")], **changes)
    losses = [line["loss"] for line in read_metrics(tmp_path / "out" / "metrics.jsonl") if "loss" in line]
    assert len(losses) == outcome.steps == 12
    assert losses[-1] < 0.7 * losses[0]
    assert outcome.eval_loss is not None
    assert (tmp_path / "out" / "loss.png").stat().st_size > 1000
    assert (outcome.model / "tokenizer.json").is_file()
    assert not weights_of(outcome.model).equal(weights_of(trained))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_only_answers_are_learned(trained: Path, shards: Path, tmp_path: Path) -> None:
    """The loss of the first step is that of the answers' tokens, and of no others."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    file = chats(tmp_path / "a.jsonl", 8)
    tuned(trained, shards, tmp_path / "out", data=[file], steps=1, validation_share=0.0)
    (line,) = [line for line in read_metrics(tmp_path / "out" / "metrics.jsonl") if "loss" in line]
    tokenizer = AutoTokenizer.from_pretrained(shards / "tokenizer")
    model: Any = LlamaForCausalLM.from_pretrained(trained)
    nats, tokens = 0.0, 0
    for row in map(json.loads, file.read_text().splitlines()):
        text, answer = (
            tokenizer.apply_chat_template(row["messages"], tokenize=False),
            tokenizer.apply_chat_template(row["messages"][:1], tokenize=False, add_generation_prompt=True),
        )
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        first = len(tokenizer(answer, add_special_tokens=False)["input_ids"])
        with torch.no_grad():
            logits = model(ids).logits[0, first - 1 : -1]
        nats += float(torch.nn.functional.cross_entropy(logits, ids[0, first:], reduction="sum"))
        tokens += ids.shape[1] - first
    assert line["loss"] == pytest.approx(nats / tokens, abs=0.02)


def test_preferences_raise_the_better_answer(trained: Path, shards: Path, tmp_path: Path) -> None:
    rows = (
        {
            "prompt": [{"role": "user", "content": f"Who sees boat {number}?"}],
            "chosen": [{"role": "assistant", "content": "Ada sees it."}],
            "rejected": [{"role": "assistant", "content": "No idea at all."}],
        }
        for number in range(16)
    )
    file = tmp_path / "p.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tuned(trained, shards, tmp_path / "out", data=[file], method="dpo", validation_share=0.0)
    lines = list(read_metrics(tmp_path / "out" / "metrics.jsonl"))
    assert lines[0]["loss"] == pytest.approx(0.693, abs=0.01)
    assert lines[-1]["loss"] < 0.5
    assert lines[-1]["rewards/margins"] > 0


def test_what_cannot_work_is_told_first(trained: Path, shards: Path, tmp_path: Path) -> None:
    file = chats(tmp_path / "a.jsonl")
    (tmp_path / "there").mkdir()
    with pytest.raises(AlreadyExists, match="nothing was overwritten"):
        tuned(trained, shards, tmp_path / "there", data=[file])
    with pytest.raises(InvalidInput, match=r"holds no tokenizer\.json; set `tokenizer`"):
        tuned(trained, shards, tmp_path / "out", data=[file], tokenizer=None)
    with pytest.raises(InvalidInput, match=r"all 24 rows have more than max_tokens, 16"):
        tuned(trained, shards, tmp_path / "out", data=[file], max_tokens=16)
    with pytest.raises(FailedPrecondition, match="device is cuda, and PyTorch sees no CUDA device"):
        tuned(trained, shards, tmp_path / "out", data=[file], device="cuda")
    with pytest.raises(FailedPrecondition, match="quantize is nf4, which needs CUDA"):
        tuned(trained, shards, tmp_path / "out", data=[file], quantize="nf4", lora_rank=4)
    assert not (tmp_path / "out").exists()
