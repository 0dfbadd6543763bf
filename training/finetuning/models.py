"""Loads the model and the tokenizer that are fine-tuned."""

from pathlib import Path
from typing import Any

from mesh.errors import FailedPrecondition, InvalidInput
from training.finetuning.settings import FinetuneSettings


def load_tokenizer(settings: FinetuneSettings) -> Any:
    """InvalidInput when there is none, or it has no chat template."""
    from transformers import AutoTokenizer

    if settings.tokenizer is not None:
        if not (settings.tokenizer / "tokenizer.json").is_file():
            raise InvalidInput(f"{settings.tokenizer} holds no tokenizer.json.", field="tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(settings.tokenizer)
    else:
        path, options = _place(settings.model)
        if not options and not (Path(path) / "tokenizer.json").is_file():
            raise InvalidInput(
                f"{path} holds no tokenizer.json; set `tokenizer` to the tokenizer's folder.", field="tokenizer"
            )
        tokenizer = AutoTokenizer.from_pretrained(path, **options)
    if not tokenizer.chat_template:
        raise InvalidInput("The tokenizer has no chat template, without which chats have no form.", field="tokenizer")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(settings: FinetuneSettings, tokenizer: Any) -> Any:
    """In the precision that it is trained in. InvalidInput when it has fewer rows than the tokenizer tokens;
    FailedPrecondition when the device or a library is not there.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if settings.device == "cuda" and not torch.cuda.is_available():
        raise FailedPrecondition("device is cuda, and PyTorch sees no CUDA device here. Set device to cpu or auto.")
    path, options = _place(settings.model)
    if settings.quantize == "nf4":
        options |= {"quantization_config": _nf4(torch)}
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **options)
    if len(tokenizer) > model.config.vocab_size:
        raise InvalidInput(
            f"The tokenizer has {len(tokenizer):,} tokens, and the model {model.config.vocab_size:,}: they do not belong "
            "together.",
            field="tokenizer",
        )
    return model


def _place(model: str) -> tuple[str, dict[str, Any]]:
    path = Path(model)
    if path.suffix == ".gguf":
        return str(path.parent), {"gguf_file": path.name}
    if not (path / "config.json").is_file():
        raise InvalidInput(f"{model} is no GGUF file, and no folder with a config.json.", field="model")
    return model, {}


def _nf4(torch: Any) -> Any:
    from transformers import BitsAndBytesConfig
    from transformers.utils.import_utils import is_bitsandbytes_available

    if not torch.cuda.is_available() or not is_bitsandbytes_available():
        raise FailedPrecondition("quantize is nf4, which needs CUDA and the package bitsandbytes. Set it to none.")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=True,
    )
