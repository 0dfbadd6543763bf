"""Retrieval models: triples mined from what a search found, and both kinds trained from them."""

import json
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import AlreadyExists, InvalidInput
from orchestrator.evaluation.clients.searches import Found
from orchestrator.evaluation.reading import read_set
from orchestrator.sources import Chunk, Passage, Span
from tests.orchestrator.evaluation.sample import write_set
from training.retrieval.settings import retrieval_settings
from training.retrieval.training import train
from training.retrieval.triples import Triple, mined, read_triples, write_triples


class Ranked:
    """Finds the same chunks for every question, in an order that is given."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    async def search(self, text: str, documents: Any = ()) -> Found:
        chunks = (
            Chunk(str(n), "d", "v", 0, f"text of {name}", Span(0, 1), display_name=name)
            for n, name in enumerate(self._names)
        )
        return Found(tuple(Passage(chunk, 1.0) for chunk in chunks), "index", 0.0)


async def test_negatives_are_passages_of_other_documents_below_the_best(tmp_path: Path) -> None:
    data = read_set(write_set(tmp_path / "set"))
    assert data.corpus is not None
    names = {document.id: document.file_name for document in data.corpus.documents()}
    judged = [question for question in data.questions if question.is_judged]
    relevant = names[next(id_ for id_, grade in judged[0].relevant.items() if grade >= 1)]
    ranked = Ranked(["a.txt", "b.txt", relevant, "c.txt", relevant, "d.txt", "e.txt"])
    found = [triple async for triple in mined(data, judged[:1], ranked, negatives=2, passed_over=2)]
    assert found == [Triple(judged[0].text, f"text of {relevant}", ("text of c.txt", "text of d.txt"))]
    assert [each async for each in mined(data, judged[:1], Ranked(["a.txt", "b.txt"]), 2, 2)] == []


def test_triples_are_read_as_they_were_written(tmp_path: Path) -> None:
    triples = [Triple("q", "p", ("n", "m")), Triple("ä", "ö", ("ü",))]
    assert write_triples(tmp_path / "t.jsonl", triples) == 2
    assert read_triples(tmp_path / "t.jsonl") == triples
    (tmp_path / "t.jsonl").write_text(json.dumps({"question": "q", "positive": "p", "negatives": []}) + "\n")
    with pytest.raises(InvalidInput, match="line 1: not a question"):
        read_triples(tmp_path / "t.jsonl")
    (tmp_path / "t.jsonl").write_text("")
    with pytest.raises(InvalidInput, match="holds no triples"):
        read_triples(tmp_path / "t.jsonl")


def tiny_encoder(folder: Path) -> Path:
    """A BERT of two layers that knows the letters."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir()
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(tokens))
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokens), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["embedder", "reranker"])
def test_it_learns_to_tell_what_answers(tmp_path: Path, kind: str) -> None:
    from sentence_transformers import CrossEncoder, SentenceTransformer

    words = [f"{a}{b}" for a in "abcd" for b in "wxyz"]
    triples = [
        Triple(word, f"{word} {word}", (f"{other} {other}",))
        for word, other in zip(words, reversed(words), strict=True)
    ]
    write_triples(tmp_path / "t.jsonl", triples)
    settings = retrieval_settings(
        kind=kind, model=str(tiny_encoder(tmp_path / "base")), triples=tmp_path / "t.jsonl", epochs=40, batch_rows=8,
        learning_rate=5e-3, max_tokens=16, device="cpu",
    )  # fmt: skip
    outcome = train(settings, tmp_path / "out")
    assert outcome.rows == 16
    right = 0
    if kind == "reranker":
        scorer = CrossEncoder(str(outcome.model), device="cpu")
        for each in triples:
            better, worse = scorer.predict([(each.question, each.positive), (each.question, each.negatives[0])])
            right += better > worse
    else:
        model = SentenceTransformer(str(outcome.model), device="cpu")
        for each in triples:
            question, better, worse = model.encode([each.question, each.positive, *each.negatives])
            right += question @ better > question @ worse
    assert right >= 13
    with pytest.raises(AlreadyExists):
        train(settings, tmp_path / "out")


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_triples(tmp_path / "t.jsonl", [Triple("q", "p", ("n",))])
    settings = retrieval_settings(kind="reranker", model=str(tmp_path / "none"), triples=tmp_path / "t.jsonl")
    with pytest.raises(InvalidInput, match=r"The model .*none cannot be loaded"):
        train(settings, tmp_path / "out")
