"""Checkpoints of a run: whole or not there, written in the background, kept by policy, checked before they are used.

A checkpoint is a folder `step-00000500`: `model.safetensors` with `config.json` (which transformers loads as it is),
`optimizer.safetensors`, and `state.json` with the step, the position in the data, the settings, and size and digest of each
file. It is written beside its place and renamed, so that a process that dies leaves the older ones. No random state is kept:
what is random in a step is drawn from a seed made of the run's seed and the step's number.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mesh import logs
from mesh.errors import Corrupt, FailedPrecondition

WEIGHTS, MOMENTS, CONFIG, STATE = "model.safetensors", "optimizer.safetensors", "config.json", "state.json"
_PREFIX, _WRITING = "step-", ".writing-"
log = logs.get(__name__)


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds. `facts` is plain JSON; `eval_loss` in it, where set, tells the best one."""

    step: int
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    config: dict[str, Any]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """One that is there. Its tensors are read when they are asked for."""

    folder: Path
    step: int
    facts: dict[str, Any]
    config: dict[str, Any]
    files: dict[str, dict[str, Any]] = field(repr=False)

    @contextmanager
    def tensors(self, file: str) -> Iterator[Mapping[str, Tensor]]:
        """The tensors of WEIGHTS or MOMENTS, read one by one. Corrupt when the file is damaged."""
        try:
            with safe_open(self.folder / file, framework="pt", device="cpu") as opened:
                yield _Lazy(opened)
        except SafetensorError as error:
            raise Corrupt(f"{self.folder / file} is damaged ({error}). Use an older checkpoint.") from error


class _Lazy(Mapping[str, Tensor]):
    def __init__(self, opened: Any) -> None:
        self._opened, self._names = opened, set(opened.keys())

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._opened.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Checkpoints:
    """The checkpoints of one run. One process writes; all may read."""

    def __init__(self, folder: Path, keep_last: int, keep_every_steps: int) -> None:
        self._folder, self._keep_last, self._keep_every = folder, keep_last, keep_every_steps
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save(self, snapshot: Snapshot) -> None:
        """Begins to write. Waits for the one before, and raises what went wrong with it."""
        self.wait()
        self._writing = self._writer.submit(self._write, snapshot)

    def wait(self) -> None:
        """Until all is written. FailedPrecondition when the disk is full."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def close(self) -> None:
        """Ends the writing thread after what it is writing."""
        self._writer.shutdown()

    def _write(self, snapshot: Snapshot) -> None:
        scratch = self._folder / f"{_WRITING}{snapshot.step}-{os.getpid()}"
        try:
            scratch.mkdir(parents=True)
            save_file(snapshot.weights, scratch / WEIGHTS, metadata={"format": "pt"})
            save_file(snapshot.moments, scratch / MOMENTS)
            (scratch / CONFIG).write_text(json.dumps(snapshot.config, indent=1))
            files = {name: _measured(scratch / name) for name in (WEIGHTS, MOMENTS, CONFIG)}
            state = {"step": snapshot.step, "facts": snapshot.facts, "files": files}
            (scratch / STATE).write_text(json.dumps(state, indent=1))
            for path in (*scratch.iterdir(), scratch):
                _sync(path)
            place = self._folder / f"{_PREFIX}{snapshot.step:08d}"
            shutil.rmtree(
                place, ignore_errors=True
            )  # only one that was damaged can be there: the run went on before it
            scratch.rename(place)
            _sync(self._folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(scratch, ignore_errors=True)
            raise FailedPrecondition(
                f"The checkpoint of step {snapshot.step} could not be written to {self._folder}: {error}. The earlier ones "
                "are whole; make room and start the run again."
            ) from error
        self._prune()

    def _prune(self) -> None:
        found = list(listed(self._folder))
        losses = {each.step: each.facts["eval_loss"] for each in found if each.facts.get("eval_loss") is not None}
        kept = {each.step for each in found[-self._keep_last :]}
        if losses:
            kept.add(min(losses, key=lambda step: losses[step]))
        if self._keep_every:
            kept |= {each.step for each in found if each.step % self._keep_every == 0}
        for each in found:
            if each.step not in kept:
                shutil.rmtree(each.folder)


def clear_unfinished(folder: Path) -> None:
    """Removes what a process that died was writing. To be called before anything is written."""
    for path in folder.glob(f"{_WRITING}*"):
        shutil.rmtree(path, ignore_errors=True)


def listed(folder: Path) -> Iterator[Checkpoint]:
    """All that can be read, by step; damaged tensors are not looked for."""
    for path in sorted(folder.glob(f"{_PREFIX}*")):
        try:
            yield read(path)
        except Corrupt as error:
            log.warning("checkpoint_skipped", reason=error.message)


def read(folder: Path) -> Checkpoint:
    """A checkpoint's facts. Corrupt when a file of it is missing, or is not JSON where it should be."""
    try:
        state = json.loads((folder / STATE).read_text())
        config = json.loads((folder / CONFIG).read_text())
        return Checkpoint(folder, state["step"], state["facts"], config, state["files"])
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise Corrupt(f"{folder} is no whole checkpoint ({type(error).__name__}: {error}).") from error


def newest_whole(folder: Path) -> Checkpoint | None:
    """The newest one whose files are what was written; a damaged one is told of and passed over. None where there is none;
    Corrupt when all are damaged.
    """
    found = [path for path in folder.glob(f"{_PREFIX}*") if path.is_dir()]
    for path in sorted(found, reverse=True):
        try:
            checkpoint = read(path)
            check(checkpoint)
            return checkpoint
        except Corrupt as error:
            log.warning("checkpoint_skipped", reason=error.message)
    if found:
        raise Corrupt(f"None of the {len(found)} checkpoints in {folder} is whole. Begin anew in another folder.")
    return None


def check(checkpoint: Checkpoint) -> None:
    """Corrupt unless each file has the size and the digest that were written down."""
    for name, wanted in checkpoint.files.items():
        path = checkpoint.folder / name
        if not path.is_file() or path.stat().st_size != wanted["bytes"] or _measured(path) != wanted:
            raise Corrupt(f"{path} is missing, half written or changed.")


def _measured(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "blake2b": hashlib.file_digest(file, "blake2b").hexdigest()}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
