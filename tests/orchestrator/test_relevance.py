"""Relevance: what counts as found, and when a model says that it does not know."""

import pytest

from orchestrator.relevance import admits_not_knowing, is_relevant, relevance
from orchestrator.sources import Chunk, Passage, Span
from orchestrator.words import coverage, rarity, stem, stems


def passage(text: str, cosine: float | None, name: str = "a.txt") -> Passage:
    return Passage(Chunk("1", "d", "v", 0, text, Span(0, len(text)), display_name=name), 1.0, cosine)


def test_words_and_cosine_add_up() -> None:
    assert relevance("crank turns", passage("The crank turns.", 0.2)) == pytest.approx(0.7)
    assert relevance("crank turns", passage("The crank.", 0.2)) == pytest.approx(0.45)
    assert relevance("crank turns", passage("Nothing.", 0.6)) == pytest.approx(0.6)


def test_without_a_cosine_the_words_decide() -> None:
    assert relevance("crank turns", passage("The crank turns.", None)) == 1.0


def test_the_documents_name_counts() -> None:
    assert relevance("observatory tickets", passage("Tickets.", 0.0, "observatory.md")) == pytest.approx(0.5)


def test_nothing_found_is_not_relevant() -> None:
    assert not is_relevant("anything", [], 0.0)


@pytest.mark.parametrize(
    "words",
    [
        "I do not know: the sources do not tell.", "I don't know.", "The text does not mention that.",
        "The document doesn't say.", "It is not mentioned in the sources.", "There is no information about it.",
        "The provided sources do not explicitly state this.",
    ],
)  # fmt: skip
def test_not_knowing_is_recognised(words: str) -> None:
    assert admits_not_knowing(words)


@pytest.mark.parametrize(
    "words", ["Rollo did not know the king.", "The door is not given a key.", "Sources of the river lie in the hills."]
)
def test_knowing_is_not_mistaken(words: str) -> None:
    assert not admits_not_knowing(words)


def test_stems_meet() -> None:
    assert stem("flights") == stem("flight")
    assert stem("ruled") == stem("rules") == stem("ruling")
    assert stem("cities") == "city"
    assert stems("What is the 日本 tower?") == {"日", "本", "tower"}


def test_rare_words_weigh_more() -> None:
    weights = rarity([stems("kiln fire"), stems("kiln door"), stems("kiln clay")])
    assert weights["fire"] > weights["kiln"]
    assert coverage({"kiln", "fire"}, {"fire"}, weights) > 0.5
    assert coverage({"kiln", "unheard"}, {"kiln"}, weights) < 0.5
    assert coverage(set(), {"a"}) == 0.0
