"""Runs stages: here, one task after the other or in several processes; on Slurm; or on Ray. All by datatrove's executors."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from loguru import logger

from mesh.errors import FailedPrecondition
from training.prepare.settings import Machines
from training.prepare.stages import Stage, Workplace


class QuietLocalExecutor(LocalPipelineExecutor):
    """Without datatrove's log on the terminal; what it counts is in files, and its errors are raised."""

    def run(self) -> Any:
        """One worker needs no other process, nor datatrove's manager of them."""
        if self.workers > 1:
            return super().run()
        steps = self.pipeline
        for rank in self.get_incomplete_ranks():
            self.pipeline = deepcopy(steps)
            self._run_for_rank(rank)
        return None

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        logger.disable("datatrove")  # here, because each process of the pool begins anew
        return super()._run_for_rank(rank, local_rank, node_rank)


def run_here(stage: Stage, place: Workplace, workers: int) -> None:
    """Runs the tasks of a stage that are not done."""
    logger.disable("datatrove")
    QuietLocalExecutor(
        stage.steps, tasks=stage.tasks, workers=min(workers, stage.tasks), logging_dir=str(place.logs(stage.name))
    ).run()


def submit(stages: Sequence[Stage], last: PipelineStep, place: Workplace, machines: Machines) -> None:
    """Hands all stages to a cluster, each to begin when the one before is done, and `last` at the end as one task. The
    workplace must be a folder that all machines see. On Slurm this returns when all are queued, on Ray when all are done.
    """
    kind = _executor(machines.executor)
    before: Any = None
    for stage in (*stages, Stage("finish", [last], 1)):
        before = kind(
            pipeline=stage.steps, tasks=stage.tasks, workers=machines.workers, logging_dir=str(place.logs(stage.name)),
            depends=before, **({"job_name": f"prepare-{stage.name}"} if machines.executor == "slurm" else {}),
            **machines.options,
        )  # fmt: skip
    before.run()


def completed(place: Workplace, stage: str) -> int:
    """How many tasks of a stage are done."""
    folder: Path = place.logs(stage) / "completions"
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def _executor(name: str) -> Any:
    if name == "slurm":
        from datatrove.executor.slurm import SlurmPipelineExecutor

        return SlurmPipelineExecutor
    try:
        import ray  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise FailedPrecondition("Ray is not installed: pip install 'ray[default]'.") from error
    from datatrove.executor.ray import RayPipelineExecutor

    return RayPipelineExecutor
