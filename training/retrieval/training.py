"""Trains an embedder (multiple negatives ranking, Henderson et al. 2017) or a cross-encoder (binary cross-entropy) with
sentence-transformers' trainers. The result is a folder that the retriever loads, there whole or not at all.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.errors import AlreadyExists, InvalidInput
from training.retrieval.settings import RetrievalSettings
from training.retrieval.triples import Triple, read_triples

MODEL = "model"


@dataclass(frozen=True)
class Outcome:
    """The model's folder, and the mean loss of training."""

    model: Path
    rows: int
    steps: int
    loss: float


def train(settings: RetrievalSettings, out: Path) -> Outcome:
    """Trains into the new folder `out`. AlreadyExists when it does; InvalidInput when the model cannot be loaded."""
    if out.exists():
        raise AlreadyExists(f"{out} exists already; nothing was overwritten. Name another folder, or remove it.")
    from transformers.trainer_callback import PrinterCallback

    triples = read_triples(settings.triples)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        trainer = (_embedder if settings.kind == "embedder" else _reranker)(settings, triples, Path(scratch) / "state")
        trainer.remove_callback(PrinterCallback)  # standard output is the command's
        trained = trainer.train()
        trainer.model.save_pretrained(str(made / MODEL))
        outcome = Outcome(out / MODEL, len(triples), trained.global_step, trained.training_loss)
        told = {"rows": outcome.rows, "steps": outcome.steps, "loss": outcome.loss}
        (made / "run.json").write_text(json.dumps({"settings": settings.model_dump(mode="json"), **told}, indent=1))
        made.rename(out)
    return outcome


def _embedder(settings: RetrievalSettings, triples: list[Triple], folder: Path) -> Any:
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    model = _loaded(SentenceTransformer, settings)
    model.max_seq_length = min(settings.max_tokens, model.max_seq_length or settings.max_tokens)
    fewest = min(len(each.negatives) for each in triples)
    rows = [
        {"anchor": each.question, "positive": each.positive}
        | {f"negative_{number}": text for number, text in enumerate(each.negatives[:fewest], 1)}
        for each in triples
    ]
    return SentenceTransformerTrainer(
        model=model, args=SentenceTransformerTrainingArguments(**_options(settings, folder)),
        train_dataset=Dataset.from_list(rows), loss=MultipleNegativesRankingLoss(model),
    )  # fmt: skip


def _reranker(settings: RetrievalSettings, triples: list[Triple], folder: Path) -> Any:
    from datasets import Dataset
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    model = _loaded(CrossEncoder, settings, num_labels=1, max_length=settings.max_tokens)
    rows = [
        {"question": each.question, "passage": text, "label": label}
        for each in triples
        for text, label in ((each.positive, 1.0), *((negative, 0.0) for negative in each.negatives))
    ]
    return CrossEncoderTrainer(
        model=model, args=CrossEncoderTrainingArguments(**_options(settings, folder)),
        train_dataset=Dataset.from_list(rows), loss=BinaryCrossEntropyLoss(model),
    )  # fmt: skip


def _loaded(kind: Any, settings: RetrievalSettings, **options: Any) -> Any:
    device = None if settings.device == "auto" else settings.device
    try:
        return kind(settings.model, device=device, **options)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInput(f"The model {settings.model} cannot be loaded: {reason}", field="model") from error


def _options(settings: RetrievalSettings, folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder), "num_train_epochs": settings.epochs, "seed": settings.seed,
        "per_device_train_batch_size": settings.batch_rows, "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup_share, "save_strategy": "no", "report_to": [], "disable_tqdm": True,
        "use_cpu": settings.device == "cpu", "logging_steps": 10,
    }  # fmt: skip
