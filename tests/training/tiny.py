"""What the tests of this room train on: a byte tokenizer, a corpus of made-up sentences, and settings of a model that learns
in seconds.
"""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import zstandard
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from training.pretraining.packing import pack

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SETTINGS: dict[str, Any] = {
    "hidden": 64, "layers": 2, "heads": 2, "kv_heads": 2, "feed_forward": 96, "context_tokens": 64, "steps": 12,
    "batch_sequences": 8, "micro_batch": 4, "warmup_steps": 2, "learning_rate": 3e-3, "eval_every_steps": 6,
    "eval_sequences": 8, "checkpoint_every_steps": 4, "tensorboard": False, "device": "cpu",
}  # fmt: skip


def make_tokenizer(folder: Path) -> Path:
    """Every byte is a token."""
    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.add_special_tokens(list(SPECIAL))
    text_end, begin, end = SPECIAL
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=begin, eos_token=end, pad_token=text_end, chat_template=CHAT_TEMPLATE
    ).save_pretrained(folder)
    return folder


def write_corpus(file: Path, texts: Iterable[str]) -> Path:
    """Records as preparation writes them."""
    lines = (
        json.dumps({"id": f"doc-{number}", "text": text, "source": "test", "licence": "CC0-1.0", "date": ""})
        for number, text in enumerate(texts)
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(zstandard.compress("\n".join(lines).encode()))
    return file


def sentences(count: int, seed: int = 1) -> list[str]:
    """Documents of one to six simple sentences."""
    chance = random.Random(seed)
    people, verbs, things = (
        ("Ada", "Ben", "Cleo"),
        ("sees", "paints", "sells"),
        ("a red boat", "the old mill", "two cats"),
    )
    return [
        " ".join(
            f"{chance.choice(people)} {chance.choice(verbs)} {chance.choice(things)}."
            for _ in range(chance.randint(1, 6))
        )
        for _ in range(count)
    ]


def make_shards(folder: Path, documents: int = 400) -> Path:
    """Token shards of the made-up corpus."""
    corpus = write_corpus(folder / "corpus" / "part.jsonl.zst", sentences(documents))
    pack([corpus.parent], make_tokenizer(folder / "tokenizer"), folder / "shards", validation_share=0.1)
    return folder / "shards"
