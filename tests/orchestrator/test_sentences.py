"""Sentences and markers: however the text is split into deltas, the result is the same."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.markers import Statement, marker_numbers, read_statement
from orchestrator.sentences import MAX_SENTENCE_CHARACTERS, SentenceStream, split_sentences

PIECES = ["Rollo ruled", ". ", ".", "! ", "?\n", "\n", " ", "[1]", "[1, 2]", "[2-4]", "[", "]", "1", ",", " [12", "Dr. ",
          "e.g. ", "3.5", "…", "“Yes.” ", "日本語。", "he ", "A. ", "1. ", "x" * 40, "         "]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=40).map("".join)
long_texts = st.lists(st.sampled_from([*PIECES, "[1]" * 30, " " * 12, "no end " * 60]), max_size=60).map("".join)


def split_at_random(text: str, seed: int) -> list[str]:
    places = sorted(random.Random(seed).choices(range(len(text) + 1), k=random.Random(seed).randint(0, 30)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


def read(deltas: list[str]) -> list[Statement]:
    stream = SentenceStream()
    sentences = [sentence for delta in deltas for sentence in stream.feed(delta)] + stream.close()
    return [read_statement(sentence) for sentence in sentences]


@given(texts | long_texts, st.integers(0, 1000))
def test_any_split_into_deltas_gives_the_same_statements(text: str, seed: int) -> None:
    assert read(split_at_random(text, seed)) == read([text]) == read(list(text))


@given(texts | long_texts)
def test_sentences_hold_all_words_in_order(text: str) -> None:
    sentences = split_sentences(text)
    assert all(text[sentence.span.start : sentence.span.end] == sentence.text for sentence in sentences)
    assert all(len(sentence.text) <= MAX_SENTENCE_CHARACTERS for sentence in sentences[:-1])
    assert "".join("".join(sentence.text for sentence in sentences).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two.", ["One.", "Two."]),
        ("It was Dr. Smith, e.g. in the U.S. Army. Yes.", ["It was Dr. Smith, e.g. in the U.S. Army.", "Yes."]),
        ("It takes 3.5 hours [1]. Then [2] rest.", ["It takes 3.5 hours [1].", "Then [2] rest."]),
        ("It is so. [1][3] And so. [2, 4]", ["It is so. [1][3]", "And so. [2, 4]"]),
        ("1. First step. [1]\n2. Second step", ["1. First step. [1]", "2. Second step"]),
        ("He said “Stop!” Then he left.", ["He said “Stop!”", "Then he left."]),
        ("ends. with lower case", ["ends. with lower case"]),
        ("一。二！", ["一。", "二！"]),
        ("   \n ", []),
    ],
)
def test_where_sentences_end(text: str, sentences: list[str]) -> None:
    assert [sentence.text for sentence in split_sentences(text)] == sentences


@pytest.mark.parametrize(
    ("marker", "numbers"),
    [
        ("[1]", [1]),
        ("[1, 2]", [1, 2]),
        ("[3;1]", [3, 1]),
        ("[2-4]", [2, 3, 4]),
        ("[4-2]", [4, 2]),
        ("[1-900]", [1, 900]),
    ],
)
def test_numbers_of_a_marker(marker: str, numbers: list[int]) -> None:
    assert marker_numbers(marker) == numbers


def test_a_statement_names_each_marker_once_and_keeps_only_words() -> None:
    (sentence,) = split_sentences("Rollo [2] ruled [1][2].")
    statement = read_statement(sentence)
    assert (statement.words, statement.markers) == ("Rollo ruled .", (2, 1))


def test_what_is_no_marker_stays() -> None:
    (sentence,) = split_sentences("See [a], [12345] and x[i].")
    assert read_statement(sentence).markers == ()
