"""Packing: never over the budget, whole chunks, none twice, merged text equal to the document's."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import packing
from orchestrator.packing import JOIN_TOKENS, Budget, candidates, first_choice, pack
from orchestrator.sources import Chunk, Passage, Source, Span

DOCUMENTS = {
    f"collections/default/documents/{name}": "".join(f"{name}{number:03d} " for number in range(60)) for name in "ab"
}


def chunk_of(document: str, start: int, end: int) -> Chunk:
    text = DOCUMENTS[document][start:end]
    return Chunk(f"{document}:{start}:{end}", document, "v1", start, text, Span(start, end), page=start // 50 + 1)


spans = st.tuples(st.integers(0, 290), st.integers(1, 60)).map(lambda pair: (pair[0], min(pair[0] + pair[1], 300)))
chunks = st.builds(lambda document, span: chunk_of(document, *span), st.sampled_from(sorted(DOCUMENTS)), spans)
passages = st.lists(
    st.builds(
        lambda chunk, before, after: Passage(chunk, 1.0, 0.5, tuple(before), tuple(after)),
        chunks,
        st.lists(chunks, max_size=2),
        st.lists(chunks, max_size=2),
    ),
    max_size=12,
)
budgets = st.builds(Budget, st.integers(0, 200), st.integers(0, 5), st.integers(1, 8))


def tokens_of(found: Sequence[Passage]) -> dict[str, int]:
    return {chunk.id: len(chunk.text) for chunk in candidates(found)}


def cost(sources: Sequence[Source], budget: Budget) -> int:
    return sum(len(source.text) for source in sources) + len(sources) * budget.separator_tokens


@settings(max_examples=60)
@given(passages, budgets)
def test_sources_keep_to_the_budget(found: list[Passage], budget: Budget) -> None:
    sources = pack(found, tokens_of(found), budget)
    assert cost(sources, budget) <= budget.tokens
    assert len(sources) <= budget.max_sources
    assert [source.number for source in sources] == list(range(1, len(sources) + 1))


@settings(max_examples=200)
@given(passages, budgets)
def test_a_first_choice_that_fits_needs_no_other_counts(found: list[Passage], budget: Budget) -> None:
    counts, first = tokens_of(found), first_choice(found, budget.max_sources)
    known = {chunk.id: counts[chunk.id] for chunk in first}
    if packing.cost(first, known, budget.separator_tokens) <= budget.tokens:
        assert pack(found, known, budget) == pack(found, counts, budget)
        assert sorted(id_ for source in pack(found, known, budget) for id_ in source.chunks) == sorted(known)


@settings(max_examples=60)
@given(passages, budgets)
def test_sources_are_the_documents_own_text(found: list[Passage], budget: Budget) -> None:
    by_id = {chunk.id: chunk for chunk in candidates(found)}
    for source in pack(found, tokens_of(found), budget):
        assert source.text == DOCUMENTS[source.document][source.span.start : source.span.end]
        for identifier in source.chunks:  # whole chunks
            span = by_id[identifier].span
            assert source.span.start <= span.start
            assert span.end <= source.span.end


@settings(max_examples=60)
@given(passages, budgets)
def test_nothing_is_in_two_sources(found: list[Passage], budget: Budget) -> None:
    sources = pack(found, tokens_of(found), budget)
    taken = [identifier for source in sources for identifier in source.chunks]
    assert len(taken) == len(set(taken))
    for one in sources:
        for other in sources:
            if one is not other and one.document == other.document:
                assert one.span.end < other.span.start or other.span.end < one.span.start


@settings(max_examples=60)
@given(passages)
def test_with_room_for_all_every_candidate_is_in(found: list[Passage]) -> None:
    sources = pack(found, tokens_of(found), Budget(10**6, 0, 100))
    assert {identifier for source in sources for identifier in source.chunks} == {c.id for c in candidates(found)}


def test_the_best_passage_is_source_one_and_neighbours_join_it() -> None:
    a, b = sorted(DOCUMENTS)
    found = [
        Passage(chunk_of(b, 100, 150), 0.9, after=(chunk_of(b, 150, 180),)),
        Passage(chunk_of(a, 0, 40), 0.8),
        Passage(chunk_of(b, 60, 110), 0.7),
    ]
    first, second = pack(found, tokens_of(found), Budget(1000, 0, 8))
    assert (first.document, first.span, first.score) == (b, Span(60, 180), 0.9)
    assert len(first.chunks) == 3
    assert first.page == 2  # the one it begins on
    assert second.document == a


def test_a_gap_keeps_chunks_apart_and_so_does_another_version() -> None:
    a = min(DOCUMENTS)
    later = chunk_of(a, 40, 60)
    renewed = Chunk(later.id, a, "v2", later.index, later.text, later.span)
    assert len(pack([Passage(chunk_of(a, 0, 40), 1), Passage(renewed, 1)], {chunk_of(a, 0, 40).id: 1, later.id: 1},
                    Budget(100, 0, 8))) == 2  # fmt: skip
    found = [Passage(chunk_of(a, 0, 40), 1), Passage(chunk_of(a, 41, 60), 1)]
    assert len(pack(found, tokens_of(found), Budget(1000, 0, 8))) == 2


def test_a_large_chunk_is_left_out_and_a_smaller_one_comes_in() -> None:
    a = min(DOCUMENTS)
    found = [Passage(chunk_of(a, 0, 60), 1), Passage(chunk_of(a, 100, 120), 0.5)]
    (only,) = pack(found, tokens_of(found), Budget(30, 0, 8))
    assert only.span == Span(100, 120)


def test_joining_is_paid_for() -> None:
    a = min(DOCUMENTS)
    found = [Passage(chunk_of(a, 0, 20), 1), Passage(chunk_of(a, 20, 40), 0.5)]
    assert len(pack(found, tokens_of(found), Budget(40 + JOIN_TOKENS - 1, 0, 8))[0].chunks) == 1
    assert len(pack(found, tokens_of(found), Budget(40 + JOIN_TOKENS, 0, 8))[0].chunks) == 2
