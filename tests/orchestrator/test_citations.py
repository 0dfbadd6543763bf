"""Citations: the same for any split into deltas, exact substrings of the document, none that does not stand."""

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.errors import Unavailable
from orchestrator.attribution import Evidence, Thresholds
from orchestrator.citations import Citer
from orchestrator.events import Citation
from orchestrator.ports import StoredText
from orchestrator.sources import Source, Span
from orchestrator.verification import Verifier
from tests.orchestrator.fakes import bag_of_words

TEXTS = {
    "a": "Preface. The Normans gave their name to Normandy. Rollo swore fealty to Charles in 911. He ruled until 927.",
    "b": "Title\nTides are caused by the gravity of the moon. The sun adds to them.",
}


def source(number: int, document: str, start: int) -> Source:
    text = TEXTS[document][start:]
    span = Span(start, start + len(text))
    return Source(number, document, "v1", f"{document}.txt", text, span, 4, (), 1.0, ("c",))


SOURCES = (source(1, "a", 9), source(2, "b", 0))


class Library:
    """The stored texts, as ingest would tell them."""

    def __init__(self, texts: dict[str, str | None]) -> None:
        self.texts, self.reads = texts, 0
        self.down = False

    async def text(self, document: str, version: str, span: Span) -> StoredText | None:
        self.reads += 1
        if self.down:
            raise Unavailable("Ingest is down.")
        text = self.texts[document]
        return None if text is None else StoredText(text[span.start : span.end], page=4 + (span.start > 80))


class Embedder:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.down = False

    async def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        self.calls.append(list(texts))
        if self.down:
            raise Unavailable("The retriever is down.")
        return [bag_of_words(text) for text in texts]


async def cite(
    deltas: Sequence[str], library: Library | None = None, embedder: Embedder | None = None, question: str = ""
) -> tuple[list[Citation], Citer]:
    evidence = Evidence(SOURCES, question, embedder or Embedder(), Thresholds())
    found: list[Citation] = []
    async with Citer(SOURCES, evidence, Verifier(library or Library(dict(TEXTS)))) as citer:
        for delta in deltas:
            citer.feed(delta)
            await asyncio.sleep(0)
            found += citer.ready()
        return found + await citer.rest(), citer


ANSWERS = st.lists(
    st.sampled_from(
        ["Rollo swore fealty to Charles", " [1]", "[1, 2]", "[2][1]", "[7]", ". ", ".", "\n", "The moon's gravity causes tides",
         " Nothing like this is anywhere", " in 911", " in 912", "I do not know", "[", " [1"]
    ),
    max_size=14,
).map("".join)  # fmt: skip


@settings(max_examples=60)
@given(ANSWERS, st.integers(0, 10_000))
def test_any_split_into_deltas_gives_the_same_citations(answer: str, seed: int) -> None:
    places = sorted(random.Random(seed).choices(range(len(answer) + 1), k=8))
    deltas = [answer[start:end] for start, end in zip([0, *places], [*places, len(answer)], strict=True)]
    whole, citer = asyncio.run(cite([answer]))
    split, split_citer = asyncio.run(cite(deltas))
    assert split == whole
    assert split_citer.dropped_markers == citer.dropped_markers
    for citation in whole:
        assert TEXTS[citation.document][citation.span.start : citation.span.end] == citation.quote
        assert 0 <= citation.similarity <= 1
        assert 0 <= citation.answer_span.start < citation.answer_span.end <= len(answer)


async def test_markers_point_to_document_page_span_and_quote() -> None:
    found, citer = await cite(["Rollo swore fealty [1]. Tides come from the moon's gravity [2, 9]."])
    first, second = found
    assert first.quote == "Rollo swore fealty to Charles in 911."
    assert (first.marker, first.document, first.page, first.attributed) == (1, "a", 4, False)
    assert second.quote == "Tides are caused by the gravity of the moon."
    assert second.answer_span == Span(24, 66)
    assert citer.dropped_markers == 1


async def test_a_quote_further_down_has_its_own_page() -> None:
    (citation,) = (await cite(["He ruled until 927 [1]."]))[0]
    assert citation.quote == "He ruled until 927."
    assert citation.page == 5


async def test_a_sentence_without_a_marker_is_attributed_by_its_words() -> None:
    embedder = Embedder()
    (citation,) = (await cite(["The gravity of the moon causes tides."], embedder=embedder))[0]
    assert (citation.marker, citation.attributed) == (2, True)
    assert citation.similarity == 1.0
    assert embedder.calls == []


async def test_in_doubt_sentences_are_compared_by_embedding() -> None:
    embedder = Embedder()
    found, _ = await cite(["The moon and gravity shape beaches and shores."], embedder=embedder)
    assert len(embedder.calls) == 1
    assert all(citation.attributed for citation in found)


async def test_a_number_that_is_not_in_the_words_is_not_supported_by_them() -> None:
    assert (await cite(["Rollo swore fealty to Charles in 912."]))[0] == []
    assert len((await cite(["Rollo swore fealty to Charles in 911."]))[0]) == 1


async def test_what_no_source_says_is_not_attributed() -> None:
    assert (await cite(["Bobby Fischer opened with the Queen's Gambit."]))[0] == []


async def test_a_marker_on_a_line_of_its_own_belongs_to_the_sentence_before() -> None:
    (attributed, marked), _ = await cite(["The gravity of the moon causes tides.\n[2]"])
    assert (attributed.attributed, marked.attributed) == (True, False)
    assert attributed.quote == marked.quote


async def test_saying_that_one_does_not_know_is_not_cited() -> None:
    found, citer = await cite(["I do not know: the sources do not tell."])
    assert found == []
    assert citer.admissions == 1


@pytest.mark.parametrize("stored", [None, TEXTS["a"].replace("Rollo", "Hrolf")])
async def test_a_quote_that_does_not_stand_is_never_sent(stored: str | None) -> None:
    found, _ = await cite(["Rollo swore fealty [1]. The moon causes tides [2]."], Library(TEXTS | {"a": stored}))
    assert [citation.document for citation in found] == ["b"]


async def test_quotes_that_cannot_be_verified_are_not_sent_and_asked_for_once() -> None:
    library = Library(dict(TEXTS))
    library.down = True
    found, _ = await cite(["Rollo swore fealty [1]. The moon causes tides [2]. Rollo ruled [1]."], library)
    assert found == []
    assert library.reads == 1


async def test_each_place_is_read_once() -> None:
    library = Library(dict(TEXTS))
    await cite(["Rollo swore fealty [1]. Rollo swore fealty [1]. He ruled until 927 [1]."], library)
    assert library.reads == 2


async def test_without_the_retriever_sentences_stay_without_citation() -> None:
    embedder = Embedder()
    embedder.down = True
    found, _ = await cite(["The moon and gravity shape beaches. Rollo swore fealty [1]."], embedder=embedder)
    assert [citation.marker for citation in found] == [1]


async def test_leaving_early_ends_the_worker() -> None:
    library = Library(dict(TEXTS))
    started = asyncio.Event()

    async def never(document: str, version: str, span: Span) -> StoredText | None:
        started.set()
        await asyncio.Event().wait()

    library.text = never
    evidence = Evidence(SOURCES, "", Embedder(), Thresholds())
    async with Citer(SOURCES, evidence, Verifier(library)) as citer:
        citer.feed("Rollo swore fealty [1]. And")
        await started.wait()
    assert citer.ready() == []
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_a_question_for_a_number_prefers_words_with_one() -> None:
    asked = "How many years did Rollo rule, and whom did he swear fealty to?"
    closest = Evidence((source(1, "a", 0),), asked, Embedder(), Thresholds()).best_for_question()
    assert closest is not None
    assert "911" in closest.quote


async def test_what_fits_the_question_best_can_be_quoted() -> None:
    evidence = Evidence(SOURCES, "Who swore fealty to Charles?", Embedder(), Thresholds())
    async with Citer(SOURCES, evidence, Verifier(Library(dict(TEXTS)))) as citer:
        closest = evidence.best_for_question()
        assert closest is not None
        quoted = await citer.quote(closest, "They say: “{quote}” [{number}]", 10)
    assert quoted is not None
    text, citation = quoted
    assert text == "They say: “Rollo swore fealty to Charles in 911.” [1]"
    assert ("x" * 10 + text)[citation.answer_span.start : citation.answer_span.end] == citation.quote
