"""`murphey train finetune`, and the data for it: `cited-rows`, `conversations` and `feedback`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mesh import terminal, threads
from mesh.errors import AlreadyExists, FailedPrecondition
from mesh.terminal import DEFAULT_DATA, DataOption, JsonOption, TargetOption
from training.extra import require

_TIMEOUT_S = 30.0


def register(group: typer.Typer) -> None:
    """Adds the commands to `murphey train`."""
    group.command("finetune")(finetune_command)
    group.command("cited-rows")(cited_rows_command)
    group.command("conversations")(conversations_command)
    group.command("feedback")(feedback_command)


def finetune_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML file with the run's settings.")],
    out: Annotated[Path, typer.Option(help="New folder for the model.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Instead of what it says.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune a model on chats or preferences, with all weights or a LoRA."""
    threads.limit()
    require("datasets", "trl", "peft", "matplotlib")
    from training.finetuning.finetune import finetune
    from training.finetuning.settings import finetune_settings
    from training.toml_files import read_toml_with

    outcome = finetune(finetune_settings(**read_toml_with(file, changes or ())), out)
    told = {
        "model": str(outcome.model), "rows": outcome.rows, "left_out": outcome.left_out, "steps": outcome.steps,
        "loss": outcome.loss, "eval_loss": outcome.eval_loss,
    }  # fmt: skip
    if as_json:
        terminal.print_json(told)
    else:
        terminal.out.print("\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in told.items()))


def cited_rows_command(
    labelled: Annotated[Path, typer.Argument(metavar="SET", help="A labelled set, as `murphey eval` reads it.")],
    out: Annotated[Path, typer.Option(help="New JSON lines file.")],
    part: Annotated[str, typer.Option(help="calibration, so that the held-out half can tell; or all.")] = "calibration",
    model: Annotated[str, typer.Option(help="The model's name when it is served, which chooses the prompt.")] = "",
    sources: Annotated[int, typer.Option(min=1, max=20, help="Passages a prompt.")] = 3,
    rows: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
) -> None:
    """Make chats from a labelled set: answers from passages with markers, and declines where the passages do not tell."""
    from itertools import islice

    from orchestrator.evaluation.reading import read_set
    from orchestrator.evaluation.sets import Part
    from orchestrator.prompts import load_prompts
    from training.finetuning.cited_rows import Mixture, as_lines, cited_chats

    template = load_prompts().for_model(model)
    chats = cited_chats(read_set(labelled), Part(part), template, Mixture(sources=sources))
    _write(out, list(as_lines(list(islice(chats, rows)))))


def conversations_command(
    out: Annotated[Path, typer.Option(help="New JSON lines file.")],
    consent: Annotated[Path, typer.Option(help="File that names the conversations whose people agreed, one a line.")],
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
) -> None:
    """Export conversations whose people agreed, redacted, as chats to fine-tune on."""
    require("datatrove")
    from mesh.discovery import channel_for
    from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
    from training.finetuning.conversations import agreed_chats, read_consent

    names = read_consent(consent)

    async def fetch() -> list[dict[str, Any]]:
        async with channel_for("orchestrator", data, target) as channel:
            return [{"messages": chat} async for chat in agreed_chats(OrchestratorServiceStub(channel), names)]

    _write(out, terminal.run(fetch()))


def feedback_command(
    out: Annotated[Path, typer.Option(help="New folder for chats.jsonl and preferences.jsonl.")],
    model: Annotated[str, typer.Option(help="The model's name when it is served, which chooses the prompt.")] = "",
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
) -> None:
    """Export rated answers that may be trained on, redacted: chats, and preferences between two answers (DPO)."""
    require("datatrove")
    from mesh.discovery import channel_for
    from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
    from orchestrator.clients.ingest import IngestClient
    from orchestrator.prompts import load_prompts
    from training.finetuning.feedback import FeedbackReader, Rated, Told, lessons

    _refuse_existing(out)
    told = Told()

    async def fetch() -> list[Rated]:
        async with channel_for("orchestrator", data, target) as answers, channel_for("ingest", data, target) as texts:
            documents = IngestClient(texts, _TIMEOUT_S)
            template = load_prompts().for_model(model)
            return await FeedbackReader(OrchestratorServiceStub(answers), documents, template).read(told)

    learned = lessons(terminal.run(fetch()))
    counts = f"{told.rated} answers are rated, {told.agreed} may be trained on, {told.left_out} of them cannot be"
    if not learned.chats:
        raise FailedPrecondition(f"There is nothing to train on: {counts}. See `murphey feedback --train`.")
    terminal.console.print(counts)
    _write(out / "chats.jsonl", learned.chats)
    _write(out / "preferences.jsonl", learned.preferences)


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise AlreadyExists(f"{out} exists already; nothing was overwritten.")


def _write(out: Path, rows: list[dict[str, Any]]) -> None:
    _refuse_existing(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    terminal.out.print(f"{len(rows)} rows in {out}")
