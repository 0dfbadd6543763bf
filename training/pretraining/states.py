"""Takes model and optimizer out as plain tensors, and puts them back, whole or sharded over processes (FSDP).

Names are the parameters' own, so that a state fits any number of devices. A tied weight is there once.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

Tensors = dict[str, Tensor]


def taken(model: nn.Module, optimizer: torch.optim.Optimizer, keep: bool) -> tuple[Tensors, Tensors]:
    """Copies on the CPU of all weights, and of the optimizer's state as `parameter:name`.

    All processes must call it, as sharded tensors are gathered; with `keep` false nothing is returned.
    """
    weights: Tensors = {}
    moments: Tensors = {}
    for name, parameter in model.named_parameters():
        for target, key, tensor in _of(name, parameter, optimizer, weights, moments):
            whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if keep:
                target[key] = whole.detach().to("cpu", copy=True).contiguous()
    return weights, moments


def _of(
    name: str, parameter: Tensor, optimizer: torch.optim.Optimizer, weights: Tensors, moments: Tensors
) -> Iterator[tuple[Tensors, str, Tensor]]:
    yield weights, name, parameter
    for key, value in sorted(optimizer.state.get(parameter, {}).items()):
        yield moments, f"{name}:{key}", value


def put(
    model: nn.Module, optimizer: torch.optim.Optimizer, weights: Mapping[str, Any], moments: Mapping[str, Any]
) -> None:
    """The reverse of `taken`. KeyError for a tensor that is not there.

    All is copied: what safetensors gives is the file itself, mapped, which would keep the disk's room of a checkpoint that is
    removed meanwhile, and end the process should somebody shorten the file.
    """
    fused = bool(optimizer.defaults.get("fused"))
    kept = sorted({key.rsplit(":", 1)[1] for key in moments})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_like(weights[name], parameter))
            state = {key: moments[f"{name}:{key}"] for key in kept}
            scalars_on = parameter.device if fused else torch.device("cpu")
            optimizer.state[parameter] = {
                key: _like(value, parameter) if value.dim() else value.to(scalars_on, copy=True)
                for key, value in state.items()
            }


def put_weights(model: nn.Module, weights: Mapping[str, Any]) -> None:
    """Weights only."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_like(weights[name], parameter))


def _like(tensor: Tensor, parameter: Tensor) -> Tensor:
    if isinstance(parameter, DTensor):
        return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)
    return tensor.to(parameter.device, copy=True)
