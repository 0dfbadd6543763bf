"""Which texts run through the network together."""

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Encoding, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from retriever.embedders.openvino import LENGTH_STEP, MAX_BATCH_TOKENS, batches, padded

TOKENIZER = Tokenizer(WordLevel({"word": 7, "[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106 - a token of text
TOKENIZER.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]


def encodings(lengths: list[int]) -> list[Encoding]:
    return TOKENIZER.encode_batch(["word " * length for length in lengths])


@given(st.lists(st.integers(1, 600), max_size=60))
def test_each_text_runs_once_and_no_run_is_too_large(lengths: list[int]) -> None:
    encoded = encodings(lengths)
    runs = list(batches(encoded))
    assert sorted(row for run in runs for row in run) == list(range(len(lengths)))
    for run in runs:
        ids = padded([encoded[row] for row in run])["input_ids"]
        assert ids.size <= MAX_BATCH_TOKENS or len(run) == 1
        assert ids.shape[1] % LENGTH_STEP == 0


def test_short_texts_are_not_padded_to_a_long_one() -> None:
    assert list(batches(encodings([10] * 8 + [40]))) == [[8], list(range(8))]


def test_what_is_almost_as_long_runs_along() -> None:
    assert list(batches(encodings([15, 17]))) == [[1, 0]]
