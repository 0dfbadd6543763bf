"""Does a run's steps in order: preparation, tokenizer, token shards, pretraining, rows that cite, fine-tuning, export."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from training.exporting.registry import Registered, export
from training.finetuning.finetune import MODEL, finetune
from training.pretraining.packing import INDEX, pack
from training.pretraining.pretrain import Outcome
from training.pretraining.settings import PretrainSettings
from training.runs.run_file import RunFile, is_made
from training.runs.steps import Made, Workshop
from training.surroundings import environment

Told = Callable[[str, str], None]
Pretrain = Callable[[PretrainSettings, Path], Outcome]


class Interrupted(Exception):
    """Pretraining was told to stop; the same command goes on."""


def run_all(run: RunFile, models: Path, pretrain: Pretrain, told: Told) -> Registered | Made:
    """The last step's result."""
    shop = Workshop(run.folder / run.name, told)
    model = _pretrained(run, shop, pretrain) if run.pretrain is not None else None
    if run.finetune is not None:
        model = _finetuned(run, shop, model)
    assert model is not None  # noqa: S101 - the file has one of both
    return model if run.export is None else _exported(run, shop, model, models)


def _pretrained(run: RunFile, shop: Workshop, pretrain: Pretrain) -> Made:
    assert run.pretrain is not None  # noqa: S101 - asked for
    corpus = _corpus(run, shop)
    made = _tokenizer(run, shop, corpus)
    tokenizer, texts = _place(made), [_place(each) for each in corpus]

    def packing(folder: Path) -> dict[str, Any]:
        return _told_in(folder / INDEX) or pack(texts, tokenizer, folder, run.pack.validation_share)

    packed = shop.step("pack", run.pack.model_dump(), [*corpus, made], packing)
    settings = run.pretrain.model_copy(update={"data": packed.folder})

    def work(folder: Path) -> dict[str, Any]:
        outcome = pretrain(settings, folder)
        if not outcome.finished:
            raise Interrupted
        return {
            "model": str(outcome.checkpoint), "tokenizer": str(packed.folder / "tokenizer"), "steps": outcome.steps,
            "loss": outcome.loss, "eval_loss": outcome.eval_loss, "data": packed.facts,
        }  # fmt: skip

    return shop.step("pretrain", run.pretrain.of_the_curve(), [packed], work)


def _told_in(file: Path) -> dict[str, Any] | None:
    """What a step wrote that was broken off before it was noted as done: its folder is there whole or not at all."""
    return json.loads(file.read_text()) if file.is_file() else None


def _place(each: Made | Path) -> Path:
    return each.folder if isinstance(each, Made) else each


def _corpus(run: RunFile, shop: Workshop) -> list[Made | Path]:
    """The folders of prepared text."""
    if run.prepare is None:
        return list(run.corpus)
    part = run.prepare

    def work(folder: Path) -> dict[str, Any]:
        from training.prepare.preparing import Order, prepare
        from training.prepare.settings import Machines, Rules

        rules = Rules(
            part.languages, quality=part.quality, personal=part.personal, near_duplicates=part.near_duplicates,
            evaluation_sets=part.evaluation_sets,
        )  # fmt: skip
        return prepare(Order(run.corpus, folder, rules, Machines(workers=part.workers))) or {}

    settings = part.model_dump(mode="json", exclude={"workers", "evaluation_sets"})
    return [shop.step("prepare", settings, [*run.corpus, *part.evaluation_sets], work)]


def _tokenizer(run: RunFile, shop: Workshop, corpus: list[Made | Path]) -> Made | Path:
    if run.tokenizer is not None:
        return run.tokenizer
    assert run.new_tokenizer is not None  # noqa: S101 - checked with the file
    vocabulary = run.new_tokenizer.vocabulary

    def work(folder: Path) -> dict[str, Any]:
        from training.tokenizer.making import Order, make
        from training.tokenizer.saving import REPORT

        return _told_in(folder / REPORT) or make(Order(_place(corpus[0]), folder, vocabulary))

    return shop.step("tokenizer", run.new_tokenizer.model_dump(), corpus, work)


def _finetuned(run: RunFile, shop: Workshop, base: Made | None) -> Made:
    assert run.finetune is not None  # noqa: S101 - asked for
    inputs: list[Made | Path] = [path for path in run.finetune.data if not is_made(path)]
    files = list(inputs)
    if run.cited is not None:
        made = _cited(run, shop)
        inputs.append(made)
        files.append(made.folder)
    update: dict[str, Any] = {"data": tuple(files)}
    if base is not None:
        inputs.append(base)
        update |= {"model": base.facts["model"], "tokenizer": Path(base.facts["tokenizer"])}
    else:
        inputs.append(Path(run.finetune.model))
    settings = run.finetune.model_copy(update=update)

    def work(folder: Path) -> dict[str, Any]:
        outcome = finetune(settings, folder)
        told = {"rows": outcome.rows, "left_out": outcome.left_out, "steps": outcome.steps}
        told |= {"model": str(folder / MODEL), "tokenizer": str(folder / MODEL), "loss": outcome.loss}
        return told | {"eval_loss": outcome.eval_loss, "base": base.facts if base else run.finetune.model}  # pyright: ignore[reportOptionalMemberAccess]

    return shop.step(
        "finetune", run.finetune.model_dump(mode="json", exclude={"data", "model", "tokenizer"}), inputs, work
    )


def _cited(run: RunFile, shop: Workshop) -> Made:
    assert run.cited is not None  # noqa: S101 - asked for
    part = run.cited

    def work(file: Path) -> dict[str, Any]:
        from orchestrator.evaluation.reading import read_set
        from orchestrator.evaluation.sets import Part
        from orchestrator.prompts import load_prompts
        from training.finetuning.cited_rows import Mixture, as_lines, cited_chats

        template = load_prompts().for_model(run.name)
        rows: list[Any] = []
        for each in part.sets:
            chats = cited_chats(read_set(each), Part(part.part), template, Mixture(sources=part.sources))
            rows += as_lines(list(islice(chats, part.rows)))
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return {"rows": len(rows), "prompt": template.version}

    return shop.step("cited", part.model_dump(mode="json", exclude={"sets"}), list(part.sets), work)


def _card_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """What others may know of the steps: no paths of this machine."""
    base = facts.get("base", facts)
    told: dict[str, Any] = {"training": {key: facts[key] for key in ("steps", "loss", "eval_loss")}}
    if isinstance(base, dict):
        packed = base["data"]
        told["data"] = {key: packed[key] for key in ("corpus", "tokenizer", "vocabulary")} | {
            name: f"{split['tokens']:,} tokens of {split['documents']:,} documents"
            for name, split in packed["splits"].items()
        }
    if "rows" in facts:
        told.setdefault("data", {})["fine-tuning rows"] = facts["rows"]
    return told


def _exported(run: RunFile, shop: Workshop, model: Made, models: Path) -> Registered:
    assert run.export is not None  # noqa: S101 - asked for
    part = run.export

    def work(folder: Path) -> dict[str, Any]:
        facts = {"licence": part.licence, **_card_facts(model.facts), "environment": environment()}
        made = export(
            Path(model.facts["model"]), Path(model.facts["tokenizer"]), run.name, models, part.openvino, part.dtype, facts,
            part.triton,
        )  # fmt: skip
        folder.unlink(missing_ok=True)  # it is there where the version was removed, or the last run ended right here
        folder.symlink_to(made.folder)
        return {"version": made.version, "folder": str(made.folder), "forms": list(made.forms)}

    exported = shop.step("export", part.model_dump() | {"models": str(models.absolute())}, [model], work)
    facts = exported.facts
    return Registered(run.name, facts["version"], Path(facts["folder"]), tuple(facts["forms"]))
