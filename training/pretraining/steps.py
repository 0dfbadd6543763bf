"""One optimizer step, the evaluation and the samples of a model: what is computed, without what is kept or told of it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from safetensors.numpy import save_file
from torch import Tensor, nn

from mesh.errors import FailedPrecondition
from training.pretraining.batches import IGNORED, Batch, Windows
from training.pretraining.processes import Processes
from training.pretraining.settings import PretrainSettings

_SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class Stepped:
    """What a step did. `loss` is in nats a token, over all processes."""

    loss: float
    gradient_norm: float
    wanted_to_stop: bool


def make_model(config: Any, seed: int) -> nn.Module:
    """With random weights; those that write to the residual stream are smaller the more layers there are (GPT-2)."""
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.div_(math.sqrt(2 * config.num_hidden_layers))
    return model


def make_optimizer(model: nn.Module, settings: PretrainSettings) -> torch.optim.AdamW:
    """AdamW; matrices decay, norms do not."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    others = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, settings.learning_rate, (settings.beta1, settings.beta2), fused=True)


class Stepper:
    """Computes with a model that is placed on its devices."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.AdamW, processes: Processes, settings: PretrainSettings
    ) -> None:
        self._model, self._optimizer, self._processes, self._settings = model, optimizer, processes, settings
        self._own = settings.batch_sequences // processes.count

    def step(self, windows: Windows, number: int, rate: float, stop: bool, kept: Path) -> Stepped:
        """Trains on the step's sequences. FailedPrecondition when loss or gradient is not a number: the model is left as it
        was, and the batch is written to the folder `kept`.
        """
        torch.manual_seed((self._settings.seed * _SEED_STRIDE + number) * _SEED_STRIDE + self._processes.rank)
        first = number * self._settings.batch_sequences + self._processes.rank * self._own
        batch = windows.dealt(first, self._own)
        own_targets = int(np.count_nonzero(batch.labels != IGNORED))
        targets, stopping = self._processes.total(own_targets, stop)
        loss = self._backward(batch, targets)
        norm = self._processes.clip(self._model, self._settings.clip_norm)
        (summed,) = self._processes.total(loss)
        mean = summed / targets
        if not (math.isfinite(mean) and math.isfinite(norm)):
            self._give_up(batch, number, mean, norm, kept)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return Stepped(mean, norm, bool(stopping))

    def _backward(self, batch: Batch, targets: float) -> float:
        """Gradients of the mean over all targets of all processes; returns this process' sum of losses.

        DDP and FSDP take the mean over processes, which the factor undoes.
        """
        micros = list(self._micros(batch))
        total: Tensor | float = 0.0
        for place, micro in enumerate(micros):
            with self._processes.accumulating(self._model, place == len(micros) - 1):
                loss = self._loss(micro)
                (loss * (self._processes.count / targets)).backward()
            total = total + loss.detach()
        return float(total)

    def _micros(self, batch: Batch) -> Iterator[Batch]:
        size = self._settings.micro_batch
        for start in range(0, len(batch.inputs), size):
            part = slice(start, start + size)
            yield Batch(batch.inputs[part], batch.labels[part], batch.positions[part])

    def _loss(self, batch: Batch) -> Tensor:
        """The sum over a micro-batch's targets."""
        device, masks = self._processes.device, self._settings.document_masks
        parts = (batch.inputs, batch.labels, batch.positions)[: 3 if masks else 2]
        inputs, labels, *positions = (torch.from_numpy(each).to(device, non_blocking=True) for each in parts)
        given = {"position_ids": positions[0]} if positions else {}
        logits = self._model(input_ids=inputs, use_cache=False, **given).logits
        return functional.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def _give_up(self, batch: Batch, number: int, loss: float, norm: float, kept: Path) -> None:
        path = kept / f"bad-batch-{number}-{self._processes.rank}.safetensors"
        arrays = {"inputs": batch.inputs, "labels": batch.labels, "positions": batch.positions}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
        raise FailedPrecondition(
            f"At step {number} the loss is {loss} and the gradient's norm {norm}. The run stopped before it changed the "
            f"weights; the batch is in {path}. Look at it, or lower learning_rate or clip_norm in a new run."
        )

    def evaluate(self, windows: Windows, sequences: int) -> float:
        """Mean loss in nats a token over sequences spread over a split."""
        self._model.eval()
        count, size = self._processes.count, self._settings.micro_batch
        summed, targets = 0.0, 0
        own = range(self._processes.rank, sequences, count)
        rounds = -(-sequences // (count * size))
        with torch.no_grad():
            for turn in range(rounds):
                numbers = own[turn * size : (turn + 1) * size]
                batch = windows.spread(numbers if numbers else range(1), sequences)
                loss = float(self._loss(batch))
                if numbers:  # a process without sequences left computes along, as sharded weights need all
                    summed, targets = summed + loss, targets + int(np.count_nonzero(batch.labels != IGNORED))
        self._model.train()
        total, all_targets = self._processes.total(summed, targets)
        return total / max(1.0, all_targets)

    def sample(self, prompt: list[int], tokens: int, vocabulary: int, temperature: float = 0.8) -> list[int]:
        """A continuation of a prompt, of so many tokens below `vocabulary`; all processes compute it alike."""
        self._model.eval()
        generator = torch.Generator("cpu").manual_seed(self._settings.seed)
        ids = list(prompt)
        with torch.no_grad():
            for _ in range(tokens):
                context = torch.tensor([ids[-self._settings.length :]], device=self._processes.device)
                logits = self._model(input_ids=context, use_cache=False).logits[0, -1, :vocabulary].float().cpu()
                ids.append(int(torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator)))
        self._model.train()
        return ids[len(prompt) :]
