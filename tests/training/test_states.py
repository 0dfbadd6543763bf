"""What is taken out of a checkpoint is the run's own: the file may be removed or shortened, and the run goes on."""

import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from training.pretraining import states


def test_nothing_stays_mapped_on_the_files_of_a_checkpoint(tmp_path: Path) -> None:
    model = torch.nn.Linear(8, 4)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.ones(1, 8)).sum().backward()
    optimizer.step()
    files = tmp_path / "weights", tmp_path / "moments"
    for tensors, file in zip(states.taken(model, optimizer, keep=True), files, strict=True):
        save_file(tensors, file)
    with safe_open(files[0], "pt") as weights, safe_open(files[1], "pt") as moments:
        names = {opened: {name: opened.get_tensor(name) for name in opened.keys()} for opened in (weights, moments)}  # noqa: SIM118
        states.put(model, optimizer, names[weights], names[moments])
        expected = {name: tensor.clone() for name, tensor in names[moments].items()}
        names.clear()
    assert str(tmp_path) not in Path(f"/proc/{os.getpid()}/maps").read_text()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in states.taken(model, optimizer, True)[1].items())
