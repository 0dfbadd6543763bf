"""The processes and devices of a run: one process, or several that torchrun started, with whole or sharded weights.

accelerate finds the device, speaks to the other processes, and wraps the model for mixed precision and DDP. Sharding (FSDP) is
PyTorch's own `fully_shard`, by layers, because accelerate's needs an accelerator, and this works on CPUs as well.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from mesh.errors import FailedPrecondition, InvalidInput
from training.pretraining.settings import PretrainSettings

_KNOWN_PEAKS = (
    ("H200", 989e12), ("H100", 989e12), ("GH200", 989e12), ("B200", 2250e12), ("A100", 312e12), ("L40S", 362e12),
    ("L4", 121e12), ("RTX 4090", 165e12), ("A10", 125e12),
)  # fmt: skip
"""Dense bf16 FLOP/s of the makers' data sheets."""
_GEMM = 1024


class Processes:
    """What the loop needs to know of where it runs."""

    def __init__(self, accelerator: Accelerator, settings: PretrainSettings) -> None:
        self._accelerator, self._settings = accelerator, settings
        self.count, self.rank = accelerator.num_processes, accelerator.process_index
        self.device = accelerator.device
        self.bf16 = accelerator.mixed_precision == "bf16"
        self.sharded = settings.parallel == "fsdp" and self.count > 1

    @property
    def is_first(self) -> bool:
        """The process that writes."""
        return self.rank == 0

    def placed(self, model: nn.Module) -> nn.Module:
        """The model on its device, wrapped or sharded."""
        if self._settings.activation_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})  # pyright: ignore[reportCallIssue]
        if not self.sharded:
            if self._settings.compile:
                model.compile()  # in place: names of parameters stay
            return self._accelerator.prepare_model(model)
        model = model.to(self.device)
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if self.bf16 else MixedPrecisionPolicy()
        for layer in model.model.layers:  # pyright: ignore[reportGeneralTypeIssues, reportAttributeAccessIssue]
            fully_shard(layer, mp_policy=policy)
        fully_shard(model, mp_policy=policy)
        if self._settings.compile:
            model.compile()
        return model

    def bare(self, model: nn.Module) -> Any:
        """The model itself, of which `named_parameters` have their own names."""
        return model if self.sharded else self._accelerator.unwrap_model(model, keep_torch_compile=False)

    def accumulating(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Around a micro-batch: gradients are exchanged at the last one only."""
        if isinstance(model, FSDPModule):
            model.set_requires_gradient_sync(last)
            return nullcontext()
        return nullcontext() if last else self._accelerator.no_sync(model)

    def clip(self, model: nn.Module, norm: float) -> float:
        """The gradients' norm before it is cut to `norm`."""
        found = nn.utils.clip_grad_norm_(model.parameters(), norm)
        return float((found.full_tensor() if isinstance(found, DTensor) else found).item())

    def total(self, *values: float) -> list[float]:
        """Each value's sum over all processes."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        return self._accelerator.reduce(tensor, "sum").tolist()  # pyright: ignore[reportAttributeAccessIssue]

    def wait(self) -> None:
        """Until all processes are here."""
        self._accelerator.wait_for_everyone()


@contextmanager
def open_processes(settings: PretrainSettings) -> Iterator[Processes]:
    """InvalidInput when the batch cannot be dealt out; FailedPrecondition when the device is not there."""
    cpu = settings.device == "cpu" or (settings.device == "auto" and not torch.cuda.is_available())
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise FailedPrecondition("device is cuda, and PyTorch sees no CUDA device here. Set device to cpu or auto.")
    check_batch(settings, int(os.environ.get("WORLD_SIZE", "1")))
    bf16 = settings.precision == "bfloat16" or (settings.precision == "auto" and not cpu)
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=cpu, mixed_precision="bf16" if bf16 else "no")
    try:
        yield Processes(accelerator, settings)
    finally:
        if accelerator.num_processes > 1:
            accelerator.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)


def check_batch(settings: PretrainSettings, processes: int) -> None:
    """InvalidInput when the batch is no multiple of what all processes compute at once."""
    at_once = processes * settings.micro_batch
    if settings.batch_sequences % at_once:
        raise InvalidInput(
            f"batch_sequences is {settings.batch_sequences}, which {processes} processes with micro_batch "
            f"{settings.micro_batch} cannot share: make it a multiple of {at_once}, or micro_batch smaller.",
            field="micro_batch",
        )


def peak_flops(device: torch.device, bf16: bool) -> tuple[float, str]:
    """FLOP/s that a device can do at best, and where the figure is from: a data sheet, or a matrix product measured now."""
    if device.type == "cuda" and bf16:
        name = torch.cuda.get_device_name(device)
        for known, peak in _KNOWN_PEAKS:
            if known in name:
                return peak, f"data sheet of {known}"
    dtype = torch.bfloat16 if bf16 else torch.float32
    return _measured_gemm(device, dtype), f"measured {str(dtype).removeprefix('torch.')} matrix product of {_GEMM}"


def _measured_gemm(device: torch.device, dtype: torch.dtype) -> float:
    import time

    left: Tensor = torch.randn(_GEMM, _GEMM, device=device).to(dtype)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        product = left @ left
        float(product[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - began)
    return 2 * _GEMM**3 / best
