"""What is measured of one question, with scripted services in place of the mesh."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from orchestrator.evaluation.answers import AnswerMeasure, failed_answer, known_names
from orchestrator.evaluation.clients.answers import Heard
from orchestrator.evaluation.clients.searches import Found, SplittingSearches
from orchestrator.evaluation.records import Kind, figures, measurable
from orchestrator.evaluation.retrieval import RetrievalMeasure, failed_ranking
from orchestrator.evaluation.sets import Question
from orchestrator.events import Citation
from orchestrator.ports import StoredText
from orchestrator.sources import Chunk, Passage, Source, Span
from orchestrator.splitting import Split

TEXT = "Marlene Oduya keeps the spare key. It hangs in a blue tin."
QUESTION = Question("q1", "Who keeps the spare key?", {"keys": 1, "kiln": 0}, ("Marlene Oduya",), True)
UNANSWERABLE = Question("q2", "Who won in 1972?", {}, (), False)
QUOTE = "Marlene Oduya keeps the spare key."


def passage(name: str, index: int, text: str) -> Passage:
    return Passage(
        Chunk(
            f"{name}{index}",
            f"collections/c/documents/{name}",
            "v1",
            index,
            text,
            Span(0, len(text)),
            display_name=name,
        ),
        score=1.0,
        dense_score=0.4,
    )


class Search:
    """Finds three chunks, two of one document."""

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []

    async def search(self, text: str, documents: Sequence[str] = ()) -> Found:
        self.asked.append(documents)
        chunks = (passage("kiln.txt", 0, "The kiln."), passage("kiln.txt", 1, "Hot."), passage("keys.txt", 0, TEXT))
        return Found(chunks, "i1", 0.0125)


class Orchestrator:
    """Says what it is told to say."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard
        self.asked: list[Sequence[str]] = []

    async def ask(self, text: str, documents: Sequence[str] = ()) -> Heard:
        self.asked.append(documents)
        return self.heard


class Texts:
    """Holds one document."""

    async def text(self, document: str, version: str, span: Span) -> StoredText | None:
        return StoredText(TEXT[span.start : span.end], 0) if version == "v1" else None


def cited(answer: str, quote: str, version: str = "v1") -> Citation:
    start = TEXT.find(quote)
    span = Span(start, start + len(quote))
    return Citation(
        1, "collections/c/documents/k", "keys.txt", version, 0, span, quote, False, Span(0, len(answer)), 1.0
    )


def heard(answer: str, *citations: Citation, declined: bool = False) -> Heard:
    source = Source(1, "collections/c/documents/k", "v1", "keys.txt", TEXT, Span(0, len(TEXT)), 0, (), 1.0, ("c1",))
    versions = {"index": "i1", "prompt": "p1", "model": "m1"}
    return Heard(answer, declined, (source,), citations, 100, 9, versions, 0.25, 1.5)


def measure(answers: Orchestrator, *, gold: bool = False) -> AnswerMeasure:
    return AnswerMeasure(answers, Search(), Texts(), {"keys": "keys.txt", "kiln": "kiln.txt"}, gold_documents=gold)


async def test_a_documents_rank_is_that_of_its_best_passage() -> None:
    record, versions = await RetrievalMeasure(Search(), {"keys": "keys.txt", "kiln": "kiln.txt"})(QUESTION)
    assert versions == {"index": "i1"}
    assert record.scores["mrr@10"] == 0.5
    assert record.scores["answer@10"] == 1
    assert record.scores["search_ms"] == 12.5
    assert record.shown["ranks"] == {"keys": 2}
    assert [(each["document"], each["relevant"]) for each in record.shown["passages"]] == [
        ("kiln", False), ("kiln", False), ("keys", True),
    ]  # fmt: skip


async def test_the_right_documents_alone_can_be_searched() -> None:
    search = Search()
    await RetrievalMeasure(search, {"keys": "keys.txt", "kiln": "kiln.txt"}, gold_documents=True)(QUESTION)
    assert search.asked == [["keys.txt"]]


async def test_a_question_that_needs_two_facts_is_searched_for_twice() -> None:
    """As the orchestrator does it: `splitting.py`."""
    texts: list[str] = []

    class Hops:
        async def search(self, text: str, documents: Sequence[str] = ()) -> Found:
            texts.append(text)
            name = "keys.txt" if len(texts) > 1 else "kiln.txt"
            return Found((passage(name, 0, "Marlene Oduya fires the kiln."),), "i1", 0.0125)

    asked = "What is kept by the woman who fires the kiln?"
    found = await SplittingSearches(Hops(), Split.LIKELY, 5).search(asked)
    assert texts == [asked, "kept woman Marlene Oduya"]
    assert [each.chunk.display_name for each in found.passages] == ["kiln.txt", "keys.txt"]
    assert found.seconds == 0.025
    texts.clear()
    assert len((await SplittingSearches(Hops(), Split.NEVER, 5).search(asked)).passages) == len(texts) == 1


async def test_a_right_answer_with_a_good_citation() -> None:
    answer = "Marlene Oduya keeps the spare key [1]."
    record, versions = await measure(Orchestrator(heard(answer, cited(answer, QUOTE))))(QUESTION)
    scores = record.scores
    assert versions["prompt"] == "p1"
    assert scores["f1"] == pytest.approx(2 * 2 / (5 + 2))
    assert (scores["em"], scores["contains"]) == (0, 1)
    assert (scores["citations"], scores["citations_standing"], scores["citations_supporting"]) == (1, 1, 1)
    assert (scores["sentences"], scores["sentences_cited"], scores["groundedness"]) == (1, 1, 1)
    assert (scores["source_recall"], scores["abstained_rightly"]) == (1, 1)
    assert (scores["first_token_ms"], scores["total_ms"]) == (250, 1500)
    assert scores["relevance"] == 0.4 + 0.5


async def test_a_quote_that_stands_elsewhere_or_supports_nothing_is_found_out() -> None:
    answer = "The kiln is hot [1]."
    gone = cited(answer, QUOTE, version="v0")
    moved = replace(cited(answer, QUOTE), span=Span(3, 3 + len(QUOTE)))
    unrelated = cited(answer, "It hangs in a blue tin.")
    record, _ = await measure(Orchestrator(heard(answer, gone, moved, unrelated)))(QUESTION)
    assert [each["stands"] for each in record.shown["citations"]] == [False, False, True]
    assert record.scores["citations_supporting"] == 0
    assert record.scores["groundedness"] == 0


async def test_declining_is_right_only_where_nothing_tells() -> None:
    declines = measure(Orchestrator(heard("I do not know.", declined=True)))
    right, wrong = (await declines(UNANSWERABLE))[0], (await declines(QUESTION))[0]
    assert (right.scores["f1_all"], right.scores["abstained_rightly"], right.scores.get("f1")) == (1, 1, None)
    assert (wrong.scores["f1_all"], wrong.scores["abstained_rightly"], wrong.scores["f1"]) == (0, 0, 0)
    told = (await measure(Orchestrator(heard("Spassky won.")))(UNANSWERABLE))[0]
    found = figures(Kind.ANSWERS, [right, wrong, told])
    assert (found["abstention_precision"], found["abstention_recall"], found["abstention_f1"]) == (0.5, 0.5, 0.5)
    assert (found["f1"], found["f1_all"], found["declined"]) == (0, 1 / 3, 2 / 3)


async def test_gold_documents_alone_are_asked_of() -> None:
    answers = Orchestrator(heard("Marlene Oduya."))
    await measure(answers, gold=True)(QUESTION)
    assert answers.asked == [["keys.txt"]]


def test_what_failed_scores_as_nothing_right() -> None:
    answer, ranking = failed_answer(QUESTION, "Too slow."), failed_ranking(QUESTION, "Too slow.")
    assert (answer.scores["f1_all"], answer.scores["abstained_rightly"], answer.error) == (0, 0, "Too slow.")
    assert (ranking.scores["ndcg@10"], ranking.scores["answer@10"]) == (0, 0)
    assert figures(Kind.ANSWERS, [answer])["failed"] == 1
    assert figures(Kind.RETRIEVAL, [ranking])["failed"] == 1


def test_figures_that_a_set_cannot_give_are_known_before() -> None:
    plain = Question("q", "How?", {"a": 1})
    assert {"f1", "abstention_f1"}.isdisjoint(measurable(Kind.ANSWERS, [plain]))
    assert "f1" in measurable(Kind.ANSWERS, [QUESTION])
    assert "abstention_f1" not in measurable(Kind.ANSWERS, [QUESTION])
    assert {"f1", "abstention_f1"} <= set(measurable(Kind.ANSWERS, [QUESTION, UNANSWERABLE]))
    assert "answer@10" not in measurable(Kind.RETRIEVAL, [plain])
    assert {"ndcg@10", "recall@100", "mrr@10", "map", "queries"} <= set(measurable(Kind.RETRIEVAL, [plain]))


def test_documents_of_a_collection_are_known_by_corpus_id() -> None:
    assert known_names(["a/keys.md", "x.txt"], frozenset({"keys"})) == {"keys": "a/keys.md", "x.txt": "x.txt"}
