"""A pretraining run: its steps in order, with what is measured, kept and written down between them."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mesh import logs
from training import presets
from training.pretraining import records, states
from training.pretraining.batches import Windows
from training.pretraining.checkpoints import MOMENTS, WEIGHTS, Checkpoints, Snapshot
from training.pretraining.plan import Plan, check_disk, make_plan
from training.pretraining.processes import Processes, open_processes, peak_flops
from training.pretraining.records import Figures, Record
from training.pretraining.run_folder import CHECKPOINTS, RunFolder, open_run
from training.pretraining.schedules import Schedule
from training.pretraining.settings import PretrainSettings
from training.pretraining.steps import Stepped, Stepper, make_model, make_optimizer
from training.tokenizers_read import TextTokenizer, read_tokenizer

log = logs.get(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `checkpoint` is a folder that transformers loads; `finished` is false when it was told to stop."""

    checkpoint: Path
    steps: int
    loss: float | None
    eval_loss: float | None
    finished: bool


Watch = Callable[[int, Figures], None]
"""Called after each step with the figures that were written down."""


def pretrain(
    settings: PretrainSettings,
    out: Path,
    planned: Callable[[Plan], None] = lambda plan: None,
    watch: Watch = lambda step, figures: None,
) -> Outcome:
    """Trains, or goes on with the run in `out`. Errors of settings, data, disk and devices come before the first step;
    FailedPrecondition when the loss is no longer a number.
    """
    with open_processes(settings) as processes, ExitStack() as stack:
        plan = make_plan(settings, processes.bf16, processes.count)
        if processes.is_first:
            check_disk(plan, settings, out)
            planned(plan)
        tokenizer = read_tokenizer(plan.shards.tokenizer)
        config = _config(settings, plan, tokenizer)
        folder = open_run(out, settings, plan, config.to_dict(), processes.is_first)
        processes.wait()
        run = _Run(settings, processes, plan, folder, tokenizer, config)
        if processes.is_first:
            run.open_records(stack)
        return run.train(watch)


def _config(settings: PretrainSettings, plan: Plan, tokenizer: TextTokenizer) -> Any:
    """Without a token for padding: its embedding would learn nothing, and it may be the one that ends a text."""
    text = tokenizer.tokenizer
    return presets.llama_config(settings.shape, plan.vocabulary, text.bos_token_id, plan.shards.end_of_text_id, None)


class _Run:
    """One process' part of a run."""

    def __init__(
        self, settings: PretrainSettings, processes: Processes, plan: Plan, folder: RunFolder, tokenizer: TextTokenizer,
        config: Any,
    ) -> None:  # fmt: skip
        self._settings, self._processes, self._plan, self._folder = settings, processes, plan, folder
        self._tokenizer, self._config = tokenizer, config
        self._model: nn.Module = processes.placed(make_model(config, settings.seed))
        self._optimizer = make_optimizer(self._model, settings)
        self._stepper = Stepper(self._model, self._optimizer, processes, settings)
        self._checkpoints = Checkpoints(folder.path / CHECKPOINTS, settings.keep_last, settings.keep_every_steps)
        self._records: list[Record] = []
        self._windows = self._cut(plan.shards.train)
        enough = plan.shards.validation.tokens > settings.length
        self._validation = self._cut(plan.shards.validation) if enough else None
        self._eval_loss: float | None = None
        self._saved = folder.first_step
        self._resume()

    def _cut(self, split: Any) -> Windows:
        end = self._plan.shards.end_of_text_id if self._settings.document_masks else None
        return Windows(split, self._settings.length, end, self._settings.seed)

    def _resume(self) -> None:
        checkpoint = self._folder.checkpoint
        if checkpoint is None:
            return
        with checkpoint.tensors(WEIGHTS) as weights, checkpoint.tensors(MOMENTS) as moments:
            states.put(self._processes.bare(self._model), self._optimizer, weights, moments)
        before = checkpoint.facts.get("processes")
        if before != self._processes.count:
            log.warning("resumed_with_other_processes", before=before, now=self._processes.count)

    def open_records(self, stack: ExitStack) -> None:
        """Opens what figures are written to; closed with the stack."""
        stack.callback(self._checkpoints.close)
        path, after = self._folder.path, self._folder.first_step
        self._records.append(records.JsonLines(path / records.METRICS, after))
        if self._settings.tensorboard:
            self._records.append(records.TensorBoard(path / "tensorboard", after))
        if self._settings.wandb != "off":
            told = self._settings.model_dump(mode="json")
            self._records.append(records.WandB(path, path.name, self._settings.wandb, told))
        for record in self._records:
            stack.callback(record.close)

    def train(self, watch: Watch) -> Outcome:
        """All steps that are left."""
        settings, loss, step = self._settings, None, self._folder.first_step
        meter = _Meter(self._plan, settings, self._processes)
        schedule = _schedule(settings)
        self._model.train()
        with _stop_signals() as stop:
            while step < settings.steps:
                done = self._stepper.step(self._windows, step, schedule.at(step), stop(), self._folder.path)
                rate, step, loss = schedule.at(step), step + 1, done.loss
                figures = self._after(step, done, rate, meter)
                watch(step, figures)
                if done.wanted_to_stop:
                    break
        if self._saved < step:
            self._save(step)
        self._checkpoints.wait()
        self._plot()
        self._processes.wait()
        kept = self._folder.path / CHECKPOINTS / f"step-{step:08d}"
        return Outcome(kept, step, loss, self._eval_loss, step == settings.steps)

    def _after(self, step: int, done: Stepped, rate: float, meter: "_Meter") -> Figures:
        settings, last = self._settings, step == self._settings.steps
        figures: Figures = {"loss": done.loss, "gradient_norm": done.gradient_norm, "learning_rate": rate}
        figures |= meter.figures(step)
        self._eval_loss = None
        if self._validation is not None and (last or step % settings.eval_every_steps == 0):
            with meter.paused():
                self._eval_loss = self._stepper.evaluate(self._validation, settings.eval_sequences)
                figures["eval_loss"] = self._eval_loss
        if settings.sample_every_steps and (last or step % settings.sample_every_steps == 0):
            with meter.paused():
                figures |= self._samples()
        if last or step % settings.log_every_steps == 0 or "eval_loss" in figures:
            for record in self._records:
                record.write(step, figures)
        if last or step % settings.checkpoint_every_steps == 0:
            with meter.paused():
                self._save(step)
                self._plot()
        return figures

    def _samples(self) -> Figures:
        texts: Figures = {}
        for number, prompt in enumerate(self._settings.sample_prompts):
            (ids,) = self._tokenizer.encode([prompt])
            new = self._stepper.sample(
                ids or [self._plan.shards.end_of_text_id], self._settings.sample_tokens, self._plan.shards.vocabulary
            )
            texts[f"sample_{number}"] = prompt + self._tokenizer.tokenizer.decode(new)
        return texts

    def _save(self, step: int) -> None:
        first = self._processes.is_first
        weights, moments = states.taken(self._processes.bare(self._model), self._optimizer, first)
        if first:
            facts = {
                "sequences": step * self._settings.batch_sequences, "tokens": step * self._plan.tokens_per_step,
                "eval_loss": self._eval_loss, "processes": self._processes.count, "data": self._plan.shards.fingerprint,
                "tokenizer": self._plan.shards.tokenizer_fingerprint, "settings": self._settings.model_dump(mode="json"),
            }  # fmt: skip
            config = {**self._config.to_dict(), "architectures": ["LlamaForCausalLM"]}
            self._checkpoints.save(Snapshot(step, weights, moments, config, facts))
        self._saved = step

    def _plot(self) -> None:
        metrics = self._folder.path / records.METRICS
        if self._processes.is_first and metrics.is_file():
            records.plot_losses(metrics, self._folder.path / records.PLOT, self._folder.path.name)


class _Meter:
    """Speed since the last figures, without what is not training."""

    def __init__(self, plan: Plan, settings: PretrainSettings, processes: Processes) -> None:
        self._tokens, self._began, self._pause = plan.tokens_per_step, time.perf_counter(), 0.0
        self._flops = presets.flops_per_token(settings.shape, plan.vocabulary, settings.length)
        peak, self._source = peak_flops(processes.device, processes.bf16)
        self._peak = peak * processes.count

    def figures(self, step: int) -> Figures:
        """Of the step that just ended."""
        now = time.perf_counter()
        rate = self._tokens / max(1e-9, now - self._began - self._pause)
        self._began, self._pause = now, 0.0
        return {"tokens": step * self._tokens, "tokens_per_s": rate, "mfu": rate * self._flops / self._peak}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Does not count the time within."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._pause += time.perf_counter() - began


def _schedule(settings: PretrainSettings) -> Schedule:
    return Schedule(
        settings.schedule, settings.learning_rate, settings.lowest_rate, settings.warmup_steps, settings.steps,
        settings.decay_share,
    )  # fmt: skip


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Tells whether SIGTERM or SIGINT came: the step ends, a checkpoint is written. Outside the main thread none can come."""
    came: list[int] = []
    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, lambda got, _: came.append(got))
    except ValueError:  # not the main thread
        pass
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: one that was not Python's
