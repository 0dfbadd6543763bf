"""How well a model predicts a text: nats a token, perplexity, and bits a byte, which compares across tokenizers.

Windows overlap by half, so that each token but the first ones has half a context before it (as in Hugging Face's guide).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.errors import InvalidInput


@dataclass(frozen=True)
class Perplexity:
    """Over all tokens that were predicted."""

    nats_per_token: float
    perplexity: float
    bits_per_byte: float
    tokens: int


def perplexity(
    folder: Path, texts: Iterable[str], tokenizer_folder: Path | None = None, device: str = "cpu"
) -> Perplexity:
    """Of a model in a folder over texts, each for itself. InvalidInput for no text with two tokens, or a vocabulary that
    does not fit.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from training.tokenizers_read import read_tokenizer

    tokenizer = read_tokenizer(tokenizer_folder or folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.to(device).eval()
    if tokenizer.vocabulary > model.config.vocab_size:
        raise InvalidInput(
            f"The tokenizer has {tokenizer.vocabulary:,} tokens, and the model {model.config.vocab_size:,}: they do not belong "
            "together."
        )
    nats, tokens, size = 0.0, 0, 0
    with torch.no_grad():
        for text in texts:
            (ids,) = tokenizer.encode([text])
            ids = [tokenizer.end_of_text_id, *ids]
            size += len(text.encode())
            tokens += len(ids) - 1
            nats += sum(_nats(model, torch, window, first) for window, first in _windows(ids, _context(model)))
    if tokens == 0:
        raise InvalidInput("There is no text to predict.")
    return Perplexity(nats / tokens, math.exp(min(700.0, nats / tokens)), nats / math.log(2) / max(1, size), tokens)


def _context(model: Any) -> int:
    return model.config.max_position_embeddings


def _windows(ids: list[int], context: int) -> Iterator[tuple[list[int], int]]:
    """Stretches of at most `context` tokens, each with the place of the first one that is to be predicted in it."""
    yield ids[:context], 1
    half = context // 2
    for start in range(context, len(ids), half):
        begin = start - (context - half)
        yield ids[begin : begin + context], start - begin


def _nats(model: Any, torch: Any, window: list[int], first: int) -> float:
    if len(window) <= first:
        return 0.0
    ids = torch.tensor([window], device=model.device)
    logits = model(input_ids=ids, use_cache=False).logits[0, first - 1 : -1].float()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, first:], reduction="sum"))
