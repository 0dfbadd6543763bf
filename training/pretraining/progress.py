"""A pretraining run on a terminal: its plan, a bar with the time left, and how it ended."""

import os
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mesh import terminal
from training.pretraining.plan import Plan
from training.pretraining.pretrain import Outcome, pretrain
from training.pretraining.records import Figures
from training.pretraining.settings import PretrainSettings


def shown(settings: PretrainSettings, out: Path) -> Outcome:
    """Runs it and shows it on standard error; of several processes the first one does."""
    quiet = os.environ.get("RANK", "0") != "0"
    columns = (
        TextColumn("{task.fields[told]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=terminal.console, disable=quiet) as progress:
        task = progress.add_task("training", total=settings.steps, told="")

        def planned(plan: Plan) -> None:
            for name, value in plan.lines():
                progress.console.print(f"{name}: {value}")

        def watch(step: int, figures: Figures) -> None:
            told = f"loss {figures['loss']:.4f}  {figures['tokens_per_s']:,.0f} tokens/s  MFU {figures['mfu']:.1%}"
            progress.update(task, completed=step, told=told)
            for name in sorted(name for name in figures if name.startswith("sample_")):
                progress.console.print(f"step {step}: {figures[name]}")

        return pretrain(settings, out, planned, watch)
