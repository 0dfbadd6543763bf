"""`murphey train pack`, `plan` and `pretrain`."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from mesh import terminal, threads
from mesh.errors import FailedPrecondition
from mesh.terminal import JsonOption
from training.extra import installed, require

RunFile = Annotated[Path, typer.Argument(metavar="FILE", help="TOML file with the run's settings.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Instead of what the file says.")
]


def register(group: typer.Typer) -> None:
    """Adds the commands to `murphey train`."""
    group.command("pack")(pack_command)
    group.command("plan")(plan_command)
    group.command("pretrain")(pretrain_command)


def pack_command(
    corpus: Annotated[list[Path], typer.Argument(help="Prepared text: *.jsonl.zst, or folders of them.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder of a tokenizer in Hugging Face's form.")],
    out: Annotated[Path, typer.Option(help="New folder for the token shards.")],
    validation_share: Annotated[
        float, typer.Option(min=0, max=0.5, help="Of the documents, kept for evaluation.")
    ] = 0.01,
    as_json: JsonOption = False,
) -> None:
    """Turn prepared text into token shards, which pretraining reads through memory maps."""
    threads.limit()
    with installed():
        from training.pretraining.packing import pack

    index = pack(corpus, tokenizer, out, validation_share)
    if as_json:
        terminal.print_json(index)
        return
    for name, split in index["splits"].items():
        terminal.out.print(f"{name}: {split['tokens']:,} tokens of {split['documents']:,} documents")


def plan_command(
    file: RunFile,
    changes: Changes = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that the run will have.")] = 1,
) -> None:
    """Say what a pretraining run will take: parameters, memory, FLOPs and disk. Trains nothing."""
    from training.pretraining.plan import make_plan
    from training.pretraining.settings import read_settings

    settings = read_settings(file, changes or ())
    for name, value in make_plan(settings, settings.precision == "bfloat16", processes).lines():
        terminal.out.print(f"{name}: {value}")


def pretrain_command(
    file: RunFile,
    out: Annotated[Path, typer.Option(help="Folder of the run; one that is there goes on.")],
    changes: Changes = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes on this machine, such as one a GPU.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Train a model from nothing on token shards. A run that was broken off goes on where its last checkpoint is.

    Over several machines start `-m training.pretraining FILE OUT` with torchrun.
    """
    threads.limit()
    require("matplotlib", "tensorboardX")
    if processes > 1:
        _spread(file, out, changes or [], processes)
        return
    from training.pretraining.progress import shown
    from training.pretraining.settings import read_settings

    outcome = shown(read_settings(file, changes or ()), out)
    told = {
        "checkpoint": str(outcome.checkpoint), "steps": outcome.steps, "loss": outcome.loss,
        "eval_loss": outcome.eval_loss, "finished": outcome.finished,
    }  # fmt: skip
    if as_json:
        terminal.print_json(told)
    else:
        terminal.out.print("\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in told.items()))
    if not outcome.finished:
        raise typer.Exit(130)


def _spread(file: Path, out: Path, changes: list[str], processes: int) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
        "-m", "training.pretraining", str(file), str(out), *changes,
    ]  # fmt: skip
    status = subprocess.run(command, check=False).returncode
    if status:
        raise FailedPrecondition(
            f"The run of {processes} processes ended with status {status}; its messages are above."
        )
