"""What a run will take, told before it begins; what would fail later is refused here."""

from dataclasses import dataclass
from pathlib import Path

from mesh.errors import InvalidInput
from training import disk, presets
from training.pretraining.settings import PretrainSettings
from training.pretraining.shards import TokenShards, open_shards


@dataclass(frozen=True)
class Plan:
    """A run's size. `vocabulary` is the rows of the embedding; memory is of one process, in bytes."""

    shards: TokenShards
    vocabulary: int
    parameters: int
    memory: presets.Memory
    tokens_per_step: int
    tokens: int
    flops: float
    checkpoint_bytes: int

    def lines(self) -> list[tuple[str, str]]:
        """For people."""
        memory, epochs = self.memory, self.tokens / max(1, self.shards.train.tokens)
        return [
            ("parameters", f"{self.parameters:,} ({self.vocabulary:,} rows of the vocabulary)"),
            ("tokens", f"{self.tokens:,} in all, {self.tokens_per_step:,} a step, {epochs:.2f} epochs"),
            ("memory, a process", f"{_size(memory.total)}: {_size(memory.weights_and_gradients)} weights and gradients, "
             f"{_size(memory.optimizer)} optimizer, {_size(memory.activations)} activations"),
            ("FLOPs", f"{self.flops:.3g}"),
            ("a checkpoint", _size(self.checkpoint_bytes)),
        ]  # fmt: skip


def make_plan(settings: PretrainSettings, bf16: bool, processes: int) -> Plan:
    """InvalidInput or Corrupt when the data cannot be used for this model."""
    shards = open_shards(settings.data)
    if shards.train.tokens <= settings.length:
        raise InvalidInput(
            f"{settings.data} has {shards.train.tokens:,} tokens to train on, and a sequence takes {settings.length:,}. "
            "Take more text, or a smaller sequence_tokens.",
            field="data",
        )
    shape, vocabulary = settings.shape, presets.padded_vocabulary(shards.vocabulary)
    step = settings.batch_sequences * settings.length
    flops = presets.flops_per_token(shape, vocabulary, settings.length) * step * settings.steps
    sharded = processes if settings.parallel == "fsdp" else 1
    memory = presets.memory(shape, vocabulary, settings.micro_batch, settings.length, bf16, sharded)
    return Plan(
        shards, vocabulary, presets.parameters(shape, vocabulary), memory, step, step * settings.steps, flops,
        presets.checkpoint_bytes(shape, vocabulary),
    )  # fmt: skip


def check_disk(plan: Plan, settings: PretrainSettings, out: Path) -> None:
    """FailedPrecondition unless the disk takes the checkpoints that are kept, and the one being written."""
    kept = settings.keep_last + 2  # the best one, and the one being written
    if settings.keep_every_steps:
        kept += settings.steps // settings.keep_every_steps
    there = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) if out.is_dir() else 0
    needed = max(0, kept * plan.checkpoint_bytes - there)
    disk.need(out, needed)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
