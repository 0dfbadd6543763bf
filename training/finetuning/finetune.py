"""A fine-tuning run with trl's trainers: chats with loss on answers only, or preferences (DPO), with all weights or a LoRA.

The result is a folder in Hugging Face's form, with a LoRA merged in, that is there whole or not at all.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from mesh.errors import AlreadyExists
from training.finetuning.models import load_model, load_tokenizer
from training.finetuning.rows import Example, Preference, fitting, parted, read_examples, read_preferences
from training.finetuning.settings import FinetuneSettings
from training.pretraining.records import METRICS, PLOT, Figures, JsonLines, plot_losses

MODEL, STATE = "model", "state"


@dataclass(frozen=True)
class Outcome:
    """How a run ended. Losses are means over the last steps and over the validation rows."""

    model: Path
    rows: int
    left_out: int
    steps: int
    loss: float | None
    eval_loss: float | None


def finetune(settings: FinetuneSettings, out: Path) -> Outcome:
    """Trains, into the new folder `out`. A run that was broken off leaves nothing and begins anew.

    AlreadyExists when `out` does. Errors of data, model and devices come before the first step.
    """
    if out.exists():
        raise AlreadyExists(f"{out} exists already; nothing was overwritten. Name another folder, or remove it.")
    reads = read_examples if settings.method == "sft" else read_preferences
    rows = cast("Sequence[Any]", reads(settings.data))
    tokenizer = load_tokenizer(settings)
    kept = fitting(rows, lambda row: _tokens(tokenizer, row), settings.max_tokens)
    model = load_model(settings, tokenizer)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        trainer = _trainer(settings, model, tokenizer, *parted(kept, settings.validation_share), Path(scratch) / STATE)
        trained = trainer.train()
        losses = _write_curve(trainer.state.log_history, made)
        _save(trainer, tokenizer, settings, made / MODEL)
        outcome = Outcome(out / MODEL, len(kept), len(rows) - len(kept), trained.global_step, *losses)
        told = {key: value for key, value in asdict(outcome).items() if key != "model"}
        (made / "run.json").write_text(json.dumps({"settings": settings.model_dump(mode="json"), **told}, indent=1))
        made.rename(out)
    return outcome


def _tokens(tokenizer: Any, row: Example | Preference) -> int:
    """Of the whole row, the longer one of two answers."""
    answers = (row.completion,) if isinstance(row, Example) else (row.chosen, row.rejected)
    texts = [tokenizer.apply_chat_template([*row.prompt, *answer], tokenize=False) for answer in answers]
    return max(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])


def _trainer(
    settings: FinetuneSettings, model: Any, tokenizer: Any, train: list[Any], validation: list[Any], folder: Path
) -> Any:
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    sets = [Dataset.from_list([asdict(row) for row in rows]) if rows else None for rows in (train, validation)]
    options = _options(settings, folder, bool(validation))
    if settings.method == "sft":
        arguments: Any = SFTConfig(max_length=None, completion_only_loss=True, **options)
        kind: Any = SFTTrainer
    else:
        arguments, kind = DPOConfig(max_length=None, beta=settings.dpo_beta, **options), DPOTrainer
    trainer = kind(
        model=model, args=arguments, train_dataset=sets[0], eval_dataset=sets[1], processing_class=tokenizer,
        peft_config=_lora(settings),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)  # standard output is the command's
    return trainer


def _options(settings: FinetuneSettings, folder: Path, evaluates: bool) -> dict[str, Any]:
    import torch

    cpu = settings.device == "cpu" or not torch.cuda.is_available()
    return {
        "output_dir": str(folder), "per_device_train_batch_size": settings.micro_batch,
        "gradient_accumulation_steps": settings.batch_rows // settings.micro_batch,
        "per_device_eval_batch_size": settings.micro_batch, "num_train_epochs": settings.epochs,
        "max_steps": settings.steps or -1, "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup_share, "lr_scheduler_type": "cosine", "weight_decay": settings.weight_decay,
        "logging_steps": 1, "save_strategy": "no", "eval_strategy": "epoch" if evaluates else "no", "seed": settings.seed,
        "bf16": settings.precision == "bfloat16" or (settings.precision == "auto" and not cpu), "use_cpu": cpu,
        "report_to": [], "disable_tqdm": True, "activation_checkpointing": False,
        "dataloader_pin_memory": not cpu,
    }  # fmt: skip


def _lora(settings: FinetuneSettings) -> Any:
    if not settings.lora_rank:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=settings.lora_rank, lora_alpha=settings.lora_alpha, lora_dropout=settings.lora_dropout,
        target_modules="all-linear", task_type="CAUSAL_LM",
    )  # fmt: skip


def _write_curve(history: list[dict[str, Any]], folder: Path) -> tuple[float | None, float | None]:
    """Writes figures and plot; returns the last losses."""
    lines = JsonLines(folder / METRICS, 0)
    last: dict[str, Any] = {}
    for entry in history:
        figures: Figures = {
            key: value for key, value in entry.items() if key != "step" and isinstance(value, int | float)
        }
        if {"loss", "eval_loss"} & figures.keys():
            lines.write(entry["step"], figures)
            last |= figures
    lines.close()
    plot_losses(folder / METRICS, folder / PLOT, "fine-tuning")
    return last.get("loss"), last.get("eval_loss")


def _save(trainer: Any, tokenizer: Any, settings: FinetuneSettings, folder: Path) -> None:
    model = trainer.accelerator.unwrap_model(trainer.model)
    if settings.lora_rank:
        model = model.merge_and_unload()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
