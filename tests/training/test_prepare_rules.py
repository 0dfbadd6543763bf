"""The rules that are done anew here give datatrove's verdicts; words, sentences and runs of words."""

import random
from itertools import pairwise

import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters.gopher_repetition_filter import GopherRepetitionFilter
from hypothesis import given
from hypothesis import strategies as st

from tests.training import prose
from training.prepare.duplicates import NearSignatures
from training.prepare.ngrams import hashed, normal_words
from training.prepare.personal import Personal
from training.prepare.repetition import Repetition
from training.prepare.words import Words


def repetitive(number: int) -> str:
    """Texts that repeat themselves more or less: some pass, most break one rule or another."""
    chosen = random.Random(number)
    sentences = [prose.sentence(chosen) for _ in range(chosen.randint(2, 30))]
    repeated = [chosen.choice(sentences) for _ in range(chosen.randint(0, 12))]
    parts = [*sentences, *repeated]
    chosen.shuffle(parts)
    return chosen.choice((" ", "\n", "\n\n")).join(parts)


def test_repetition_is_judged_as_datatrove_judges_it() -> None:
    words = Words()
    own, theirs = Repetition(language=words), GopherRepetitionFilter(language=words)  # pyright: ignore[reportArgumentType]
    seen = set[object]()
    for number in range(300):
        document = Document(repetitive(number), str(number))
        verdict = theirs.filter(document)
        assert own.filter(document) == verdict
        seen.add(verdict)
    assert len(seen) >= 6


def test_words_are_what_the_rules_count() -> None:
    split = Words().word_tokenize
    assert split("It's the mill-owner's 3rd... café, naïve_name!") == [
        "It's", "the", "mill", "-", "owner's", "3rd", "...", "café", ",", "naïve", "_", "name", "!",
    ]  # fmt: skip
    assert split("我爱你。") == ["我", "爱", "你", "。"]


def test_sentences_end_where_they_do() -> None:
    split = Words().sent_tokenize
    assert split('He said "No." Then he left... and v1.2 stayed!') == [
        'He said "No."',
        "Then he left...",
        "and v1.2 stayed!",
    ]
    assert split("你好。再见。") == ["你好。", "再见。"]
    assert split("  \n ") == []


@given(st.text())
def test_sentences_are_the_whole_text(text: str) -> None:
    spans = Words().span_tokenize(text)
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert "".join(text[start:end] for start, end in spans).strip() == text.strip()


def test_runs_are_alike_whatever_their_case_and_punctuation() -> None:
    one, other = normal_words("The Café, in 1920: was CLOSED!"), normal_words("the cafe in 7 was closed")
    assert one == other
    assert hashed(one, 3).tolist() == hashed(other, 3).tolist()
    assert len(set(hashed(one, 3).tolist())) == len(one) - 2
    assert len(hashed(one, len(one) + 1)) == 0


def test_the_share_of_equal_hashes_is_the_similarity(tmp_path_factory: pytest.TempPathFactory) -> None:
    """MinHash's promise: two signatures agree in as many places as the texts have runs in common."""
    folder = tmp_path_factory.mktemp("near")
    signatures = NearSignatures(folder / "near", folder / "counts")
    for share in (0.005, 0.02, 0.05):
        exact: list[float] = []
        told: list[float] = []
        for number in range(40):
            texts = (prose.article(number), prose.changed(prose.article(number), number, share))
            one, other = (set(hashed(normal_words(text), 5).tolist()) for text in texts)
            exact.append(len(one & other) / len(one | other))
            first, second = (np.array(signatures.get_signature(signatures.get_shingles(text))) for text in texts)
            told.append(float(np.mean(first == second)))
        assert np.mean(told) == pytest.approx(np.mean(exact), abs=0.03)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Call +1 (212) 555-0188 now", "Call +1 555 0100 now"),
        ("Founded 1998-2004, 12.5 % of 3,000,000", "Founded 1998-2004, 12.5 % of 3,000,000"),
        ("ISBN 978-3-16-148410-0", "ISBN 978-3-16-148410-0"),
        ("GB82 WEST 1234 5698 7654 32.", "XX00 0000 0000 0000."),
        ("card 5555555555554444", "card 4000 0000 0000 0002"),
        ("order 1234567890123456", "order 1234567890123456"),
    ],
)
def test_numbers_that_are_personal_are_masked_and_others_stay(text: str, expected: str) -> None:
    assert Personal().format(text) == expected
