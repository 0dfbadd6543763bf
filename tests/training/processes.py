"""Pretraining runs in processes of their own, so that what a signal or a crash ends is a run and never the tests.

The tests' process has by then loaded a dozen libraries with threads and signal handlers of their own, a Go runtime once among
them. A server process that has loaded what a run needs, and nothing else, forks one process a run.
"""

import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from training.pretraining.pretrain import Outcome, pretrain
from training.pretraining.settings import PretrainSettings

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["training.pretraining.pretrain", "tensorboardX", "transformers.models.llama.modeling_llama"]
)


def pretrain_apart(settings: PretrainSettings, out: Path, signal_at: tuple[int, int] | None = None) -> Outcome:
    """What the run says in the end, or raises. `signal_at` is a step, and the signal that the process sends itself after it.

    EOFError when it dies without a word.
    """
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_run, args=(settings, out, signal_at, theirs))
    with ours:
        with theirs:
            process.start()
        try:
            said = ours.recv()
        finally:
            process.join()
    if isinstance(said, BaseException):
        raise said
    return said


def _run(settings: PretrainSettings, out: Path, signal_at: tuple[int, int] | None, told: Connection) -> None:
    def watch(step: int, _: object) -> None:
        if signal_at is not None and step == signal_at[0]:
            os.kill(os.getpid(), signal_at[1])

    torch.set_num_threads(1)  # a tiny model's threads wait for each other more than they compute
    try:
        said: object = pretrain(settings, out, watch=watch)
    except Exception as error:
        said = error
    told.send(said)
