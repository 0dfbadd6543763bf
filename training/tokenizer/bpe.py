"""Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019), by Hugging Face's tokenizers.

Every byte is a token, so that any text can be written and read back exactly; digits stand alone (Liu and Low 2023 on why), and
marks stay with their letters, which GPT-2's pattern splits off in scripts that write vowels as marks.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer

from mesh.errors import FailedPrecondition, InvalidInput
from training.tokenizer.special import SPECIAL_TOKENS

BYTES = 256
SMALLEST_VOCABULARY = BYTES + len(SPECIAL_TOKENS)
MIN_FREQUENCY = 2
MAX_TOKEN_LETTERS = 24
_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

Texts = Callable[[], Iterable[str]]


def check_size(vocabulary: int, texts: Texts) -> None:
    """Refuses what the data cannot fill, before training: a token is a piece of a word that stands there at least twice, so
    there are no more tokens than such pieces. Stops reading when there are enough. InvalidInput, FailedPrecondition.
    """
    if vocabulary < SMALLEST_VOCABULARY:
        raise InvalidInput(
            f"A vocabulary of {vocabulary} is too small: {BYTES} bytes and {len(SPECIAL_TOKENS)} special tokens make "
            f"{SMALLEST_VOCABULARY}."
        )
    wanted, pieces, once = vocabulary - SMALLEST_VOCABULARY, set[str](), set[str]()
    splitter, any_text = _pre_tokenizer(), False
    for text in texts():
        any_text = True
        for word, _ in splitter.pre_tokenize_str(text):
            if len(pieces) >= wanted:
                return
            _count(word, once, pieces)
    if not any_text:
        raise FailedPrecondition("The corpus is empty: there is no text to make a tokenizer from.")
    if len(pieces) < wanted:
        raise _too_large(vocabulary, SMALLEST_VOCABULARY + len(pieces))


def train(vocabulary: int, texts: Texts) -> Tokenizer:
    """A tokenizer with exactly so many tokens, the same for the same texts. FailedPrecondition when the data gives fewer."""
    tokenizer = Tokenizer(BPE(byte_fallback=False))
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocabulary, min_frequency=MIN_FREQUENCY, special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=ByteLevel.alphabet(), max_token_length=MAX_TOKEN_LETTERS, show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts(), trainer)
    if tokenizer.get_vocab_size() < vocabulary:
        raise _too_large(vocabulary, tokenizer.get_vocab_size())
    return tokenizer


def batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Several texts at a time."""
    remaining = iter(texts)
    while batch := list(islice(remaining, size)):
        yield batch


def _pre_tokenizer() -> Sequence:
    split = Split(Regex(_PATTERN), behavior="isolated")
    return Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])


def _count(word: str, once: set[str], pieces: set[str]) -> None:
    """Pieces of two bytes and more, as the trainer counts them: the second time that a word stands there, all of them count."""
    if word in pieces:
        return
    if word not in once:
        once.add(word)
        return
    for start in range(len(word)):
        for end in range(start + 2, min(len(word), start + MAX_TOKEN_LETTERS) + 1):
            pieces.add(word[start:end])


def _too_large(vocabulary: int, reached: int) -> FailedPrecondition:
    return FailedPrecondition(
        f"A vocabulary of {vocabulary} is larger than this text allows: it gives at most {reached} tokens. "
        f"Name a smaller one with --vocabulary, or give more text."
    )
