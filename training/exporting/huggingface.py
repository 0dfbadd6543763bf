"""A model in Hugging Face's form: safetensors, configuration, tokenizer with its chat template, generation settings, card."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mesh.errors import AlreadyExists, Corrupt, InvalidInput
from training.exporting.model_card import model_card
from training.tokenizer.special import END_OF_TEXT

DType = Literal["float32", "bfloat16", "float16"]
CARD, FACTS = "README.md", "murphey.json"


@dataclass(frozen=True)
class Source:
    """A trained model: its folder, which transformers loads, and its tokenizer's, which may be the same."""

    model: Path
    tokenizer: Path


def find_source(model: Path, tokenizer: Path | None) -> Source:
    """InvalidInput unless both are there; Corrupt for a checkpoint without weights."""
    if not (model / "config.json").is_file():
        raise InvalidInput(f"{model} holds no config.json: name a checkpoint or a folder in Hugging Face's form.")
    if not any(model.glob("*.safetensors")):
        raise Corrupt(f"{model} holds no safetensors: it is no whole checkpoint.")
    tokens = tokenizer or model
    if not (tokens / "tokenizer.json").is_file():
        raise InvalidInput(f"{tokens} holds no tokenizer.json; name the tokenizer's folder.", field="tokenizer")
    return Source(model, tokens)


def write_huggingface(source: Source, out: Path, dtype: DType, name: str, facts: dict[str, Any]) -> None:
    """Writes the folder `out`, which must not exist. `facts` (data, metrics, settings) go into the card and beside it.

    InvalidInput when the tokenizer has more tokens than the model.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    if out.exists():
        raise AlreadyExists(f"{out} exists already; nothing was overwritten.")
    tokenizer = AutoTokenizer.from_pretrained(source.tokenizer)
    model = AutoModelForCausalLM.from_pretrained(source.model, dtype=getattr(torch, dtype))
    if len(tokenizer) > model.config.vocab_size:
        raise InvalidInput(
            f"The tokenizer in {source.tokenizer} has {len(tokenizer):,} tokens, and the model in {source.model} only "
            f"{model.config.vocab_size:,}: they do not belong together.",
            field="tokenizer",
        )
    ends = {tokenizer.eos_token_id, tokenizer.get_vocab().get(END_OF_TEXT)} - {None}
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=sorted(ends), pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    parameters = model.num_parameters()
    (out / FACTS).write_text(json.dumps(facts, indent=1))
    (out / CARD).write_text(model_card(name, parameters, model.config.to_dict(), facts), encoding="utf-8")


def copy_beside(huggingface: Path, out: Path) -> None:
    """What every other form has beside its weights: configuration, tokenizer, card."""
    for path in huggingface.iterdir():
        if path.is_file() and path.suffix in (".json", ".jinja", ".md") and not path.name.endswith(".index.json"):
            shutil.copy(path, out / path.name)
