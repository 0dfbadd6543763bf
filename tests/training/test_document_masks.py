"""Documents that share a sequence do not see each other: what is predicted in the second one is what it would be alone."""

import numpy as np
import torch

from training import presets
from training.pretraining.batches import Windows
from training.pretraining.shards import Split
from training.pretraining.steps import make_model

END = 1


def test_a_document_is_read_as_if_it_were_alone() -> None:
    first, second = [5, 6, 7, END], [8, 9, 10, 11, END, 12]
    whole = np.asarray([*first, *second], np.uint16)
    batch = Windows(Split((whole,), (0,), len(whole)), len(whole) - 1, END, seed=0).spread(range(1), 1)
    shape = presets.shape_of("nano", layers=2)
    model = make_model(presets.llama_config(shape, 64, None, END, None), seed=1).eval()

    def logits(ids: list[int], positions: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=torch.tensor([ids]), position_ids=torch.tensor([positions]), use_cache=False).logits[
                0
            ]

    together = logits(batch.inputs[0].tolist(), batch.positions[0].tolist())
    alone = logits(second[:-1], list(range(len(second) - 1)))
    torch.testing.assert_close(together[len(first) :], alone, atol=1e-5, rtol=1e-5)
    changed = logits([2, 3, 4, END, *second[:-1]], batch.positions[0].tolist())
    torch.testing.assert_close(changed[len(first) :], together[len(first) :], atol=0, rtol=0)
