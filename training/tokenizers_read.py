"""Reads a tokenizer in Hugging Face's form for training on text: what looks like a control token in a text stays text."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.errors import InvalidInput
from training.tokenizer.special import END_OF_TEXT


@dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer, and the token that ends a document: `<|endoftext|>` where there is one, else its end of sequence."""

    tokenizer: Any
    end_of_text_id: int
    fingerprint: str

    @property
    def vocabulary(self) -> int:
        """Tokens, special ones included."""
        return len(self.tokenizer)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, without special tokens."""
        backend = self.tokenizer.backend_tokenizer
        backend.encode_special_tokens = True
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]

    def save(self, folder: Path) -> None:
        """As it was read."""
        self.tokenizer.backend_tokenizer.encode_special_tokens = False
        self.tokenizer.save_pretrained(folder)


def read_tokenizer(folder: Path) -> TextTokenizer:
    """InvalidInput for a folder without a fast tokenizer, or a tokenizer that ends nothing."""
    from transformers import AutoTokenizer

    if not (folder / "tokenizer.json").is_file():
        raise InvalidInput(
            f"{folder} holds no tokenizer.json: name a folder in Hugging Face's form.", field="tokenizer"
        )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    end = tokenizer.get_vocab().get(END_OF_TEXT, tokenizer.eos_token_id)
    if end is None:
        raise InvalidInput(f"The tokenizer in {folder} has no end-of-text token: {END_OF_TEXT} or an eos_token.")
    return TextTokenizer(tokenizer, end, fingerprint(folder))


def fingerprint(folder: Path) -> str:
    """Changes with the vocabulary and its rules; files beside tokenizer.json do not count."""
    return hashlib.blake2b((folder / "tokenizer.json").read_bytes(), digest_size=16).hexdigest()
