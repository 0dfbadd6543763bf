"""Pieces add up to the whole decoding, no piece holds half a character, and stop strings never show."""

import os
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE, WordPiece

from generator.detokenizer import Detokenizer
from generator.prepare import prepare, weights_file
from generator.settings import GeneratorSettings
from generator.stops import StopStrings
from mesh import weights
from mesh.settings import default_models_folder
from tests.generator.fakes import byte_tokenizer

CORPUS = [
    "The quick brown fox jumps over the lazy dog.",
    "größer, naïve café — 東京 🚀 नमस्ते",
    "1 2  3   4\n\n\tend",
] * 3


@cache
def merged_byte_level() -> Tokenizer:
    """Like GPT-2's and Llama 3's: merges over bytes, characters split over tokens."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=alphabet, special_tokens=["<s>"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


@cache
def metaspace() -> Tokenizer:
    """Like Llama 2's: `▁` for a space, the first one dropped, bytes for what is not in the vocabulary."""
    tokens = [
        "<unk>",
        "<s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *map(chr, range(33, 127)),
        "▁t",
        "he",
        "▁the",
    ]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he")]
    tokenizer = Tokenizer(BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))  # noqa: S106
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<s>"])
    return tokenizer


@cache
def word_pieces() -> Tokenizer:
    """Like BERT's: `##` continues a word, spaces are put back between words."""
    letters = [chr(code) for code in range(97, 123)]
    tokens = ["[UNK]", *letters, *(f"##{letter}" for letter in letters), ".", ",", "the", "##ing"]
    tokenizer = Tokenizer(WordPiece({token: index for index, token in enumerate(tokens)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return tokenizer


def _pieces(tokenizer: Tokenizer, ids: list[int], sizes: list[int]) -> list[str]:
    detokenizer, pieces, at = Detokenizer(tokenizer), [], 0
    for size in sizes:
        pieces.append(detokenizer.feed(ids[at : at + size]))
        at += size
    pieces += [detokenizer.feed([token]) for token in ids[at:]]
    return [*pieces, detokenizer.flush()]


any_text = st.text(max_size=60)
sizes = st.lists(st.integers(0, 5), max_size=20)


@pytest.mark.parametrize("make", [byte_tokenizer, merged_byte_level, metaspace, word_pieces])
@given(text=any_text, sizes=sizes)
def test_pieces_add_up_to_the_whole(make: cache, text: str, sizes: list[int]) -> None:  # pyright: ignore
    tokenizer: Tokenizer = make()
    ids = tokenizer.encode(text).ids
    assert "".join(_pieces(tokenizer, ids, sizes)) == tokenizer.decode(ids)


@pytest.fixture(scope="module")
async def smollm2() -> Tokenizer:
    """The default model's own."""
    folder = Path(os.environ.get("MURPHEY_MODELS") or default_models_folder())
    source = weights_file(weights.pull("smollm2-135m-instruct", folder))
    return Tokenizer.from_file(str((await prepare(source, GeneratorSettings(models=folder).prepared)).tokenizer))


@pytest.mark.slow
@given(text=st.one_of(any_text, st.text("ab é東🚀\n <|im_end|>", max_size=60)), sizes=sizes)
def test_pieces_of_the_real_model_add_up_to_the_whole(smollm2: Tokenizer, text: str, sizes: list[int]) -> None:
    ids = smollm2.encode(text).ids
    pieces, whole = _pieces(smollm2, ids, sizes), smollm2.decode(ids)
    assert "".join(pieces) == whole
    if "\N{REPLACEMENT CHARACTER}" not in whole:  # its vocabulary lacks the bytes of some characters
        assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


@pytest.mark.slow
@given(ids=st.lists(st.integers(0, 49_151), max_size=60), sizes=sizes)
def test_any_tokens_of_the_real_model_add_up(smollm2: Tokenizer, ids: list[int], sizes: list[int]) -> None:
    assert "".join(_pieces(smollm2, ids, sizes)) == smollm2.decode(ids)


@given(text=any_text)
def test_no_piece_holds_half_a_character(text: str) -> None:
    text = text.replace("\N{REPLACEMENT CHARACTER}", "")
    for tokenizer in (byte_tokenizer(), merged_byte_level()):
        assert not any(
            "\N{REPLACEMENT CHARACTER}" in piece for piece in _pieces(tokenizer, tokenizer.encode(text).ids, [])
        )


@given(ids=st.lists(st.integers(0, 319), max_size=60))
def test_any_tokens_of_a_byte_level_model_add_up(ids: list[int]) -> None:
    tokenizer = merged_byte_level()
    assert "".join(_pieces(tokenizer, ids, [])) == tokenizer.decode(ids)


def test_text_is_not_held_back_forever_by_bytes_that_are_none() -> None:
    detokenizer, tokenizer = Detokenizer(byte_tokenizer()), byte_tokenizer()
    broken = tokenizer.encode("é").ids[0]
    given_out = [detokenizer.feed([broken]) for _ in range(100)]
    assert len("".join(given_out)) >= 60


@given(
    text=st.text(alphabet="ab\n#", max_size=40),
    stop=st.lists(st.text("ab\n#", min_size=1, max_size=4), max_size=3),
    data=st.data(),
)
def test_text_stops_before_the_first_stop_string_whatever_the_pieces(
    text: str, stop: list[str], data: st.DataObject
) -> None:
    stops, given_out, stopped, at = StopStrings(stop), "", False, 0
    while at < len(text) and not stopped:
        size = data.draw(st.integers(1, 5))
        piece, stopped = stops.feed(text[at : at + size])
        given_out, at = given_out + piece, at + size
    if not stopped:
        given_out += stops.flush()
    seen = text[:at]
    first = min((found for each in stop if (found := seen.find(each)) >= 0), default=-1)
    assert stopped == (first >= 0)
    assert given_out == (seen[:first] if stopped else text)
