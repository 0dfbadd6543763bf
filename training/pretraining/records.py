"""What a run writes down as it goes: JSON lines always, TensorBoard and Weights & Biases where wanted, and a plot."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

from mesh.errors import FailedPrecondition

METRICS, PLOT = "metrics.jsonl", "loss.png"
Figures = dict[str, float | int | str]


class Record(Protocol):
    """Takes figures of steps."""

    def write(self, step: int, figures: Figures) -> None:
        """Figures of one step; texts are samples."""
        ...

    def close(self) -> None:
        """Nothing follows."""
        ...


class JsonLines:
    """One JSON object a line, on disk as soon as it is written."""

    def __init__(self, path: Path, after_step: int) -> None:
        """What a broken run wrote beyond `after_step` is dropped, as those steps are run again."""
        kept = [line for line in read_metrics(path) if line["step"] <= after_step] if path.is_file() else []
        scratch = path.with_suffix(".writing")
        scratch.write_text("".join(json.dumps(line) + "\n" for line in kept))
        scratch.replace(path)
        self._file: TextIO = path.open("a", encoding="utf-8")

    def write(self, step: int, figures: Figures) -> None:
        """See `Record`."""
        self._file.write(json.dumps({"step": step, **figures}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """See `Record`."""
        self._file.close()


class TensorBoard:
    """Event files that TensorBoard shows."""

    def __init__(self, folder: Path, after_step: int) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=after_step + 1 if after_step else None)

    def write(self, step: int, figures: Figures) -> None:
        """See `Record`."""
        for name, value in figures.items():
            if isinstance(value, str):
                self._writer.add_text(name, value, step)
            else:
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """See `Record`."""
        self._writer.close()


class WandB:
    """Weights & Biases; offline it writes to the folder, for `wandb sync`. A run that goes on is the same run there."""

    def __init__(self, folder: Path, name: str, mode: Literal["offline", "online"], settings: dict[str, Any]) -> None:
        try:
            import wandb  # the extra `wandb`
        except ImportError as error:
            raise FailedPrecondition(
                "wandb is set, and the package is not here: `pip install 'murphey[wandb]'`."
            ) from error
        os.environ.setdefault("WANDB_SILENT", "true")
        self._run = wandb.init(
            project="murphey", id=name, name=name, dir=str(folder), mode=mode, resume="allow", config=settings
        )

    def write(self, step: int, figures: Figures) -> None:
        """See `Record`."""
        self._run.log(figures, step=step)

    def close(self) -> None:
        """See `Record`."""
        self._run.finish()


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a JSON lines file; one that a killed process left half is passed over."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            continue
        yield found


def plot_losses(metrics: Path, image: Path, title: str) -> None:
    """Training and validation loss over steps, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = list(read_metrics(metrics))
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, label, width in (("loss", "training", 0.8), ("eval_loss", "validation", 2.0)):
        points = [(line["step"], line[name]) for line in lines if math.isfinite(line.get(name, math.nan))]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, linewidth=width)
    axes.set(xlabel="step", ylabel="nats a token", title=title)
    if axes.lines:
        axes.legend()
    axes.grid(alpha=0.3)
    scratch = image.with_suffix(".writing.png")
    figure.savefig(scratch)
    scratch.replace(image)
