"""The folder of a run: what it was begun with, so that it goes on with nothing else, and nothing that exists is overwritten."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.errors import AlreadyExists, Corrupt, FailedPrecondition
from training.pretraining import checkpoints
from training.pretraining.checkpoints import Checkpoint
from training.pretraining.plan import Plan
from training.pretraining.settings import PretrainSettings

RUN, CHECKPOINTS = "run.json", "checkpoints"
_WRITING = "run.writing"
"""All that there is of a run whose process died while it began, or that the first of several processes begins just now."""
_SHAPE = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """`checkpoint` is where the run goes on; None for its beginning."""

    path: Path
    checkpoint: Checkpoint | None

    @property
    def first_step(self) -> int:
        """The next step to run."""
        return self.checkpoint.step if self.checkpoint else 0


def open_run(out: Path, settings: PretrainSettings, plan: Plan, config: dict[str, Any], writes: bool) -> RunFolder:
    """A new run's folder, or one that goes on.

    AlreadyExists for a folder with something else in it; FailedPrecondition when the run was begun with other settings, data
    or another model; Corrupt when none of its checkpoints is whole.
    """
    wanted = {"settings": settings.of_the_curve(), "data": plan.shards.fingerprint}
    path, kept = out / RUN, out / CHECKPOINTS
    if not path.is_file():
        if out.exists() and (not out.is_dir() or any(each.name not in (_WRITING, RUN) for each in out.iterdir())):
            raise AlreadyExists(
                f"{out} exists and is no pretraining run; nothing was overwritten. Name another folder."
            )
        if writes:
            out.mkdir(parents=True, exist_ok=True)
            scratch = out / _WRITING
            scratch.write_text(json.dumps(wanted, indent=1))
            scratch.replace(path)
        return RunFolder(out, None)
    _check_same(path, wanted)
    if writes:
        checkpoints.clear_unfinished(kept)
    checkpoint = checkpoints.newest_whole(kept)
    if checkpoint is not None:
        _check_model(checkpoint, config)
    return RunFolder(out, checkpoint)


def _check_same(path: Path, wanted: dict[str, Any]) -> None:
    try:
        begun = json.loads(path.read_text())
        before = {**begun["settings"], "data": begun["data"]}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise Corrupt(f"{path} is not what a run wrote. Begin anew in another folder.") from error
    now = {**wanted["settings"], "data": wanted["data"]}
    changed = [f"{key} (was {before.get(key)}, is {now.get(key)})" for key in now if before.get(key) != now[key]]
    if changed:
        raise FailedPrecondition(
            f"The run in {path.parent} was begun with other settings: {'; '.join(changed)}. Go on with those, or name another "
            "folder."
        )


def _check_model(checkpoint: Checkpoint, config: dict[str, Any]) -> None:
    found = {key: checkpoint.config.get(key) for key in _SHAPE}
    wrong = [f"{key} {found[key]} instead of {config[key]}" for key in _SHAPE if found[key] != config[key]]
    if wrong:
        raise FailedPrecondition(f"{checkpoint.folder} is of another model: {', '.join(wrong)}.")
