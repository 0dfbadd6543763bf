"""Pretraining on tinyshakespeare by characters, at nanoGPT's public setting for a CPU: speed beside a minimal hand-written
loop of the same model, and the validation loss after as many tokens, with a model as large.

The loop beside is nanoGPT's train.py cut down: batches from an array, AdamW, clipping; one learning rate, nothing kept or told.
"""

import json
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import zstandard

from bench import corpora
from bench.frame import Reference, Report, Row, Target
from bench.options import Options

SETTINGS: dict[str, Any] = {
    "hidden": 128, "layers": 4, "heads": 4, "kv_heads": 4, "feed_forward": 336, "context_tokens": 64,
    "batch_sequences": 12, "micro_batch": 12, "learning_rate": 1e-3, "beta2": 0.99, "warmup_steps": 100,
    "document_masks": False, "tensorboard": False, "device": "cpu", "seed": 1337,
}  # fmt: skip
STEPS, SPEED_STEPS, QUICK_STEPS, QUICK_SEQUENCES = 2_000, 250, 30, 24
NANOGPT_LOSS = 1.88
"""As its README says: 4 layers of 128, block 64, batch 12, 2,000 steps."""
TRAIN_SHARE = 0.9
_PASSED_OVER = 10
"""Steps before which speed is not looked at: memory is taken, kernels are chosen."""


def run(options: Options) -> Report:
    """Speed in turn with the loop; then one run to the end."""
    with TemporaryDirectory(prefix="murphey-bench-training-") as name:
        folder = Path(name)
        shards = _shards(folder, corpora.data_folder() / "text" / "lm-tinyshakespeare" / "input.txt")
        steps, speed_steps = (QUICK_STEPS, QUICK_STEPS) if options.quick else (STEPS, SPEED_STEPS)
        pairs = [
            (_ours(shards, folder / f"speed-{turn}", speed_steps)[0], _loop(shards, speed_steps))
            for turn in range(options.runs)
        ]
        loss = _ours(shards, folder / "whole", steps)[1]
    ours, theirs = zip(*pairs, strict=True)
    at_least, at_most = Target("ratio", at_least=1.0), Target("value", at_most=NANOGPT_LOSS)
    rows = (
        Row("tokens a second", "tokens/s", ours, Reference("a minimal loop", theirs), at_least),
        Row(
            "validation loss by characters",
            "nats",
            (loss,),
            Reference("nanoGPT, as published", (NANOGPT_LOSS,)),
            at_most,
        ),
    )
    return Report("training", rows, {"steps": steps, "sequence": 64, "batch": 12}, options.quick, ())


def _shards(folder: Path, text: Path) -> Path:
    """The first nine tenths of the text to train on, the rest to validate with; a character is a token."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    from training.pretraining.packing import pack, split_of
    from training.tokenizer.special import END_OF_TEXT

    whole = text.read_text()
    vocabulary = {letter: number for number, letter in enumerate(sorted(set(whole)))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens([END_OF_TEXT])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT).save_pretrained(folder / "tokenizer")
    cut = int(len(whole) * TRAIN_SHARE)
    parts = {"train": whole[:cut], "validation": whole[cut:]}
    rows = ({"id": next(_ids(split, split_of)), "text": part} for split, part in parts.items())
    (folder / "text.jsonl.zst").write_bytes(
        zstandard.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    )
    pack([folder / "text.jsonl.zst"], folder / "tokenizer", folder / "shards", validation_share=0.5)
    return folder / "shards"


def _ids(split: str, split_of: Any) -> Iterator[str]:
    return (name for name in map(str, count()) if split_of(name, 0.5) == split)


def _ours(shards: Path, out: Path, steps: int) -> tuple[float, float]:
    """Tokens a second of the median step, and the loss at the end: of a whole run over the whole validation split."""
    from training.pretraining.pretrain import pretrain
    from training.pretraining.settings import pretrain_settings
    from training.pretraining.shards import open_shards

    sequences = open_shards(shards).validation.tokens // 64 if steps == STEPS else QUICK_SEQUENCES
    settings = pretrain_settings(
        **SETTINGS | {"data": shards, "steps": steps, "warmup_steps": min(100, steps // 2), "eval_every_steps": steps},
        eval_sequences=sequences, checkpoint_every_steps=steps,
    )  # fmt: skip
    speeds: list[float] = []
    outcome = pretrain(settings, out, watch=lambda _, figures: speeds.append(float(figures["tokens_per_s"])))
    assert outcome.eval_loss is not None
    return median(speeds[_PASSED_OVER:]), outcome.eval_loss


def _loop(shards: Path, steps: int) -> float:
    """Tokens a second of the median step of the loop."""
    import numpy as np
    import torch
    from transformers import LlamaForCausalLM

    from training.presets import llama_config, padded_vocabulary, shape_of
    from training.pretraining.shards import open_shards

    opened = open_shards(shards)
    names = ("hidden", "layers", "heads", "kv_heads", "feed_forward", "context_tokens")
    shape = shape_of("nano", **{name: SETTINGS[name] for name in names})
    torch.manual_seed(1337)
    model: Any = LlamaForCausalLM(
        llama_config(shape, padded_vocabulary(opened.vocabulary), None, opened.end_of_text_id, None)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    tokens, chance, speeds = opened.train.shards[0], np.random.default_rng(1337), list[float]()
    for _ in range(steps):
        began = time.perf_counter()
        starts = chance.integers(0, len(tokens) - 65, 12)
        rows = torch.from_numpy(np.stack([tokens[start : start + 65] for start in starts]).astype(np.int64))
        logits = model(input_ids=rows[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        speeds.append(12 * 64 / (time.perf_counter() - began))
    return median(speeds[_PASSED_OVER:])
