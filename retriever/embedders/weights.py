"""What makes two embedders the same: their weights, whatever library or precision runs them."""

import hashlib

import torch


def digest(model: torch.nn.Module) -> str:
    """SHA-256 of names, shapes and values of all weights in float32, shortened; not of files, which libraries lay out anew."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(f"{name}{tuple(tensor.shape)}".encode())
        total.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return total.hexdigest()[:12]
