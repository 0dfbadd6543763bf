"""Scores: SQuAD's on its own examples, rankings beside ir_measures and by hand, support, abstention."""

from math import log2

import ir_measures
import pytest
from ir_measures import AP, RR, Qrel, R, ScoredDoc, nDCG

from orchestrator.evaluation import abstention, squad
from orchestrator.evaluation.abstention import Verdict
from orchestrator.evaluation.rankings import ranking_scores
from orchestrator.evaluation.support import cited_sentences, groundedness, support, supports
from orchestrator.events import Citation
from orchestrator.sources import Span


@pytest.mark.parametrize(
    ("said", "answers", "em", "f1"),
    [
        ("The Denver Broncos!", ("Denver Broncos",), 1.0, 1.0),
        ("Santa Clara, California", ("Levi's Stadium", "Santa Clara California."), 1.0, 1.0),
        ("in the 10th and 11th centuries", ("10th and 11th centuries",), 0.0, 8 / 9),
        ("France is where it is", ("France",), 0.0, 1 / 3),
        ("Paris", ("France",), 0.0, 0.0),
        ("a the an", ("",), 1.0, 1.0),
        ("", (), 1.0, 1.0),
        ("France", (), 0.0, 0.0),
        ("new new york", ("new york york",), 0.0, 2 / 3),
    ],
)
def test_exact_match_and_f1_as_squads_script_counts_them(
    said: str, answers: tuple[str, ...], em: float, f1: float
) -> None:
    assert squad.exact_match(said, answers) == em
    assert squad.f1(said, answers) == pytest.approx(f1)


def test_an_answer_is_contained_word_for_word() -> None:
    assert squad.contains("They come from Denmark, Iceland and Norway.", ("Denmark, Iceland and Norway",)) == 1
    assert squad.contains("It cost 180 euros.", ("18",)) == 0
    assert squad.contains("Anything.", ("the",)) == 0


def test_rankings_score_as_ir_measures_scores_them() -> None:
    relevant = {"a": 3, "b": 1, "c": 0, "d": 2}
    ranking = ["x", "b", "c", "a", *(f"y{number}" for number in range(20)), "d"]
    run = [ScoredDoc("1", document, -float(place)) for place, document in enumerate(ranking)]
    qrels = [Qrel("1", document, grade) for document, grade in relevant.items()]
    measures = {"ndcg@10": nDCG @ 10, "recall@10": R @ 10, "recall@100": R @ 100, "mrr@10": RR @ 10, "map": AP}
    expected = ir_measures.calc_aggregate(list(measures.values()), qrels, run)
    scores = ranking_scores(relevant, ranking)
    assert {name: scores[name] for name in measures} == pytest.approx({n: expected[m] for n, m in measures.items()})


def test_rankings_score_as_counted_by_hand() -> None:
    scores = ranking_scores({"a": 1, "b": 1}, ["x", "a", "y", "b"])
    assert scores["mrr@10"] == 0.5
    assert scores["map"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert scores["ndcg@10"] == pytest.approx((1 / log2(3) + 1 / log2(5)) / (1 + 1 / log2(3)))
    assert scores["complete@10"] == scores["recall@100"] == 1
    assert ranking_scores({"a": 1, "b": 1}, ["a"])["complete@10"] == 0


def test_relevant_or_not_is_told_apart_from_grades() -> None:
    scores = ranking_scores({"a": 4, "b": 1}, ["b", "a"])
    assert scores["ndcg_binary@10"] == 1
    assert scores["ndcg@10"] < 1


def test_nothing_found_scores_zero() -> None:
    assert set(ranking_scores({"a": 1}, []).values()) == {0.0}


def test_words_and_numbers_support_a_statement() -> None:
    text = "The big kiln is fired to 1,240 degrees on Mondays."
    assert support("The kiln is fired to 1,240 degrees.", text) == 1
    assert support("The kiln is fired to 1,300 degrees.", text) == 0
    assert support("The kiln cools for thirty hours.", text) == pytest.approx(0.25)
    assert support("It is.", text) == 1


def test_groundedness_needs_the_words_close_together() -> None:
    source = "Rollo led the raiders. They came by ship. The king sat in Paris. He gave land away."
    assert groundedness("Rollo led raiders by ship.", [source]) == 1
    assert groundedness("Rollo gave land away.", [source]) < 1
    assert groundedness("Rollo led.", ["Other words.", "Rollo led."]) == 1
    assert groundedness("Rollo led.", []) == 0


def citation(answer: str, part: str, quote: str) -> Citation:
    start = answer.index(part)
    return Citation(1, "d", "d.txt", "v", 0, Span(0, 9), quote, False, Span(start, start + len(part)), 1.0)


def test_sentences_are_covered_by_citations_and_admissions_left_out() -> None:
    answer = "Rollo swore fealty in 911 [1]. He ruled long. The sources do not say why."
    cited = citation(answer, "Rollo swore fealty in 911 [1].", "Rollo swore fealty in 911.")
    first, second = cited_sentences(answer, [cited], ["Rollo swore fealty in 911."])
    assert (first.words, first.is_cited, first.groundedness) == ("Rollo swore fealty in 911 .", True, 1.0)
    assert (second.is_cited, second.groundedness) == (False, 0.0)
    assert supports(cited, answer)
    assert not supports(citation(answer, "He ruled long.", "Rollo swore fealty in 911."), answer)


VERDICTS = [
    Verdict(answerable=True, declined=False, f1=0.8, signal=0.9),
    Verdict(answerable=True, declined=True, f1=0.0, signal=0.2),
    Verdict(answerable=False, declined=True, f1=1.0, signal=0.1),
    Verdict(answerable=False, declined=False, f1=0.0, signal=0.4),
]


def test_rates_of_declines() -> None:
    found = abstention.rates(VERDICTS)
    assert (found.precision, found.recall, found.f1) == (0.5, 0.5, 0.5)
    nothing_unanswerable = abstention.rates(VERDICTS[:1])
    assert (nothing_unanswerable.precision, nothing_unanswerable.recall, nothing_unanswerable.f1) == (None, None, None)


def test_the_curve_tells_what_a_threshold_would_have_given() -> None:
    points = abstention.curve(VERDICTS)
    assert [point.threshold for point in points] == [0.1, 0.2, 0.4, 0.9]
    assert points[0].rates == abstention.rates(VERDICTS)
    top = abstention.best(points)
    assert top is not None
    assert top is points[-1]
    assert (top.rates.precision, top.rates.recall, top.answered) == (2 / 3, 1.0, 0.5)
    assert top.f1_all == pytest.approx((0.8 + 0 + 1 + 1) / 4)
    assert abstention.curve([]) == []
