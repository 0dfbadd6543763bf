"""A tokenizer as a Hugging Face folder: what transformers, OpenVINO, vLLM and TensorRT-LLM read."""

import json
import shutil
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from mesh.errors import FailedPrecondition
from training import disk
from training.tokenizer.special import CHAT_TEMPLATE, END_OF_TEXT, PADDING, SPECIAL_TOKENS, TURN_END, TURN_START

MODEL_MAX_LENGTH = 1_000_000_000
"""Tokens; a model's own limit is in its config."""
NEEDED_BYTES = 50_000_000
REPORT = "report.json"


def check_new(folder: Path) -> None:
    """FailedPrecondition when something is there already, or the disk is full."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FailedPrecondition(f"{folder} exists already; name a new folder with --out.")
    disk.need(folder, NEEDED_BYTES)


def save(tokenizer: Tokenizer, report: dict[str, Any], folder: Path) -> None:
    """Writes the folder, at once whole."""
    scratch = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    with disk.full_is_told(folder.parent):
        scratch.mkdir(parents=True)
        tokenizer.save(str(scratch / "tokenizer.json"))
        for name, content in (
            ("tokenizer_config.json", _config()), ("special_tokens_map.json", _roles()), (REPORT, report),
        ):  # fmt: skip
            (scratch / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        scratch.replace(folder)


def _roles() -> dict[str, Any]:
    return {
        "bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": PADDING,
        "additional_special_tokens": [TURN_START, TURN_END],
    }  # fmt: skip


def _config() -> dict[str, Any]:
    added = {
        str(place): {
            "content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True,
        }
        for place, token in enumerate(SPECIAL_TOKENS)
    }  # fmt: skip
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MODEL_MAX_LENGTH,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        **_roles(),
        "chat_template": CHAT_TEMPLATE,
        "added_tokens_decoder": added,
    }
