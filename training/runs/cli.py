"""`murphey train run`."""

from pathlib import Path
from typing import Annotated

import typer

from mesh import terminal, threads
from mesh.settings import default_models_folder
from training.extra import require


def register(group: typer.Typer) -> None:
    """Adds the command to `murphey train`."""
    group.command("run")(run_command)


def run_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML file of the run.")],
    folder: Annotated[
        Path | None, typer.Option("--models", envvar="MURPHEY_MODELS", help="Where models are kept.")
    ] = None,
) -> None:
    """Do all steps of a run, from text to a model that the generator loads; those whose inputs are unchanged are left out."""
    threads.limit()
    require("datasets", "trl", "peft", "matplotlib", "tensorboardX", "datatrove")
    from training.runs.run_file import read_run

    run = read_run(file)
    from training.exporting.registry import Registered
    from training.pretraining.progress import shown
    from training.runs.running import Interrupted, run_all

    def told(step: str, what: str) -> None:
        terminal.console.print(f"{step}: {what}", markup=False)

    try:
        made = run_all(run, folder or default_models_folder(), shown, told)
    except Interrupted:
        raise typer.Exit(130) from None
    terminal.out.print(f"{made.name}@{made.version}" if isinstance(made, Registered) else made.facts["model"])
