"""Tokenizers: exact, the same for the same text, in Hugging Face's form, refused where the data is too small."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from mesh.errors import Corrupt, FailedPrecondition, Internal, InvalidInput, NotFound
from tests.training import prose
from training import records
from training.records import SUFFIX
from training.tokenizer import checks, making
from training.tokenizer.bpe import SMALLEST_VOCABULARY
from training.tokenizer.sampling import Sample, is_held_out
from training.tokenizer.special import SPECIAL_TOKENS

VOCABULARY = 600


def order(corpus: Path, out: Path, vocabulary: int = VOCABULARY, **options: Any) -> making.Order:
    return making.Order(corpus, out, vocabulary, **options)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [*map(prose.article, range(60)), "नमस्ते दुनिया। " * 30, "你好，世界。" * 30]
    return prose.write(tmp_path_factory.mktemp("corpus"), texts, files=2)


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "tokenizer"
    making.make(order(corpus, out))
    return out


@pytest.fixture(scope="module")
def tokenizer(made: Path) -> Tokenizer:
    return Tokenizer.from_file(str(made / "tokenizer.json"))


def test_it_has_the_size_that_was_asked_for_and_says_what_it_did(made: Path, tokenizer: Tokenizer) -> None:
    report = json.loads((made / "report.json").read_text())
    assert tokenizer.get_vocab_size() == report["vocabulary"] == VOCABULARY
    assert report["round_trips"] > 0x110000 // 512 - 10
    (language,) = report["fertility"].values()
    assert 1.0 < language["tokens_a_word"] < 4.0


@given(st.text())
def test_every_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_transformers_reads_it_with_its_chat_template(made: Path) -> None:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(str(made))
    chat = [{"role": "user", "content": "Who?  "}, {"role": "assistant", "content": "The baker."}]
    shown = loaded.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert shown == (
        "<|im_start|>user\nWho?  <|im_end|>\n<|im_start|>assistant\nThe baker.<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = loaded(shown, add_special_tokens=False)["input_ids"]
    assert ids.count(1) == 3
    assert loaded.decode(ids) == shown
    assert (loaded.eos_token, loaded.eos_token_id) == ("<|endoftext|>", 0)
    assert (loaded.pad_token, loaded.pad_token_id) == ("<|pad|>", 3)
    assert len(loaded) == VOCABULARY
    for text in ("a  b , c .", " leading", "tabs\t\tand\n\n\nlines", "¿Qué? don't"):
        assert loaded.decode(loaded(text)["input_ids"]) == text


def test_special_tokens_come_first(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))
    assert tokenizer.encode("2024").ids == [tokenizer.token_to_id(digit) for digit in "2024"]


def test_the_same_text_in_any_order_gives_the_same_files(corpus: Path, made: Path, tmp_path: Path) -> None:
    texts = [record for path in records.shards(corpus) for record in records.read(path)]
    writer = records.ShardWriter(tmp_path / "corpus" / f"x{SUFFIX}")
    for record in reversed(texts):
        writer.write(record)
    writer.finish()
    making.make(order(tmp_path / "corpus", tmp_path / "out"))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        assert (tmp_path / "out" / name).read_bytes() == (made / name).read_bytes()


def test_a_vocabulary_that_the_text_cannot_fill_is_refused_before_training(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="larger than this text allows"):
        making.check(order(corpus, tmp_path / "out", 1_000_000))
    with pytest.raises(InvalidInput, match="too small"):
        making.check(order(corpus, tmp_path / "out", SMALLEST_VOCABULARY - 1))
    assert not (tmp_path / "out").exists()


def test_a_text_that_gives_fewer_tokens_than_its_pieces_promised_is_refused_too(tmp_path: Path) -> None:
    """Overlapping pieces cannot all become tokens, which only training shows."""
    corpus = prose.write(tmp_path / "corpus", ["abcdefghij " * 3])
    with pytest.raises(FailedPrecondition, match="larger than this text allows"):
        making.make(order(corpus, tmp_path / "out", SMALLEST_VOCABULARY + 40))
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(corpus: Path, made: Path) -> None:
    with pytest.raises(FailedPrecondition, match="exists already"):
        making.make(order(corpus, made))


def test_bad_corpora_are_told_before(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        making.check(order(tmp_path / "nowhere", tmp_path / "out"))
    with pytest.raises(FailedPrecondition, match="empty"):
        making.check(order(prose.write(tmp_path / "empty", []), tmp_path / "out"))
    cut = prose.write(tmp_path / "cut", map(prose.article, range(5)))
    (path,) = records.shards(cut)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(Corrupt, match="truncated"):
        making.check(order(cut, tmp_path / "out"))


def test_a_sample_is_the_same_share_each_time_and_spares_what_is_measured(tmp_path: Path) -> None:
    corpus = prose.write(tmp_path / "corpus", map(prose.article, range(2_000)))
    shards = records.shards(corpus)
    sample = Sample(shards, 500_000)
    texts = list(sample.training())
    assert texts == list(Sample(shards, 500_000).training())
    assert 0.5 * 500_000 < sum(len(text.encode()) for text in texts) < 2 * 500_000
    held_out = {prose.article(number) for number in range(2_000) if is_held_out(f"test/{number}")}
    assert held_out == set(sample.held_out()["unknown"])
    assert not held_out & set(texts)


def test_a_tokenizer_that_loses_something_is_found() -> None:
    from tokenizers.models import WordLevel

    with pytest.raises(Internal, match="does not give a text back"):
        checks.check_round_trips(Tokenizer(WordLevel({"a": 0, "?": 1}, unk_token="?")), ["a b"])  # noqa: S106


def test_fertility_stands_beside_another_tokenizer(tokenizer: Tokenizer) -> None:
    texts = {"en": [prose.article(1_000)], "hi": ["नमस्ते दुनिया"]}
    found = checks.fertility(tokenizer, texts, beside=tokenizer)
    assert list(found) == ["en", "hi"]
    assert found["hi"].words == 2
    assert found["en"].tokens_a_word == found["en"].beside_tokens_a_word


@pytest.mark.slow
def test_it_is_measured_beside_smollm2(corpus: Path, tmp_path: Path) -> None:
    from mesh.settings import of_mesh
    from training.tokenizer import reference

    beside = reference.load("smollm2-135m-instruct", of_mesh(tmp_path).models)
    report = making.make(order(corpus, tmp_path / "out", beside=beside, beside_name="smollm2"))
    for language in report["fertility"].values():
        assert language["beside_tokens_a_word"] > 1.0
