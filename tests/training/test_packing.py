"""Token shards: what was written is read again, and bad input is told of."""

import json
from pathlib import Path

import pytest

from mesh.errors import AlreadyExists, Corrupt, InvalidInput
from tests.training.tiny import make_tokenizer, sentences, write_corpus
from training.pretraining.packing import pack
from training.pretraining.shards import open_shards
from training.tokenizers_read import read_tokenizer


def test_all_documents_are_there_each_closed_by_its_end(tmp_path: Path) -> None:
    texts = [*sentences(50), "with <|im_end|> in it", "ünïcödé 🙂"]
    corpus = write_corpus(tmp_path / "corpus" / "a.jsonl.zst", texts)
    tokenizer = make_tokenizer(tmp_path / "tokenizer")
    pack([corpus], tokenizer, tmp_path / "out", validation_share=0.2, shard_tokens=500)
    shards = open_shards(tmp_path / "out")
    read = read_tokenizer(shards.tokenizer)
    found: list[str] = []
    for split in (shards.train, shards.validation):
        assert len(split.shards) > 1
        ids = split.read(0, split.tokens).tolist()
        while ids:
            end = ids.index(shards.end_of_text_id)
            found.append(read.tokenizer.decode(ids[:end]))
            ids = ids[end + 1 :]
    assert sorted(found) == sorted(texts)


def test_a_document_keeps_its_split_when_others_come(tmp_path: Path) -> None:
    tokenizer, texts = make_tokenizer(tmp_path / "tokenizer"), sentences(60)
    for name, count in (("some", 40), ("all", 60)):
        pack([write_corpus(tmp_path / name / "a.jsonl.zst", texts[:count])], tokenizer, tmp_path / f"{name}-out", 0.3)
    some, all_ = (open_shards(tmp_path / name).validation for name in ("some-out", "all-out"))
    assert 0 < some.tokens < all_.tokens
    assert all_.read(0, some.tokens).tolist() == some.read(0, some.tokens).tolist()


def test_nothing_that_exists_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    corpus = write_corpus(tmp_path / "a.jsonl.zst", sentences(5))
    with pytest.raises(AlreadyExists, match="nothing was overwritten"):
        pack([corpus], make_tokenizer(tmp_path / "tokenizer"), tmp_path / "out")


def test_a_truncated_file_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl.zst", sentences(500))
    corpus.write_bytes(corpus.read_bytes()[:-20])
    with pytest.raises(Corrupt, match=r"a\.jsonl\.zst is truncated"):
        pack([corpus], make_tokenizer(tmp_path / "tokenizer"), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl.zst", "tokenizer"]


@pytest.mark.parametrize(("line", "told"), [('{"id": "1"}', "line 1: a record without text"), ("{", "line 1")])
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str, told: str) -> None:
    import zstandard

    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(line.encode()))
    with pytest.raises(InvalidInput, match=told):
        pack([tmp_path / "a.jsonl.zst"], make_tokenizer(tmp_path / "tokenizer"), tmp_path / "out")


def test_an_empty_corpus_and_a_folder_without_files_are_refused(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path / "tokenizer")
    with pytest.raises(InvalidInput, match="no documents"):
        pack([write_corpus(tmp_path / "a.jsonl.zst", [])], tokenizer, tmp_path / "out")
    with pytest.raises(InvalidInput, match=r"holds no \*\.jsonl\.zst"):
        pack([tmp_path / "tokenizer"], tokenizer, tmp_path / "out")


def test_a_shard_that_was_cut_is_named(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "a.jsonl.zst", sentences(20))
    pack([corpus], make_tokenizer(tmp_path / "tokenizer"), tmp_path / "out", 0.1)
    shard = tmp_path / "out" / "train-00000.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(Corrupt, match=r"train-00000\.bin has .* bytes instead of"):
        open_shards(tmp_path / "out")
    (tmp_path / "out" / "index.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(Corrupt, match="make the token shards again"):
        open_shards(tmp_path / "out")
