"""The rest of a passage's section as its context."""

from dataclasses import replace

import pytest

from orchestrator.packing import MAX_NEIGHBORS, Budget, candidates, pack
from orchestrator.sections import LONGEST_REACH, within_section
from orchestrator.settings import OrchestratorSettings
from orchestrator.sources import Chunk, Passage, Span
from tests.orchestrator.conftest import Client
from tests.orchestrator.fakes import FakeMesh


def chunks(*headings: str) -> list[Chunk]:
    """Chunks of one document that touch, each under its heading."""
    return [
        Chunk(str(place), "d", "v", place, f"text {place} ", Span(place * 7, place * 7 + 7), headings=tuple(h.split()))
        for place, h in enumerate(headings)
    ]


def around(place: int, document: list[Chunk]) -> Passage:
    return Passage(document[place], 1.0, 0.5, tuple(document[:place]), tuple(document[place + 1 :]))


def ids(passage: Passage) -> tuple[str, str]:
    return "".join(chunk.id for chunk in passage.before), "".join(chunk.id for chunk in passage.after)


@pytest.mark.parametrize(
    ("headings", "neighbors", "expected"),
    [
        (("a", "b", "b", "b", "b", "c", "b"), 0, ("12", "4")),
        (("a", "b", "b", "b", "b", "c", "b"), 2, ("12", "45")),
        (("a", "a", "b", "c", "d", "d", "d"), 0, ("", "")),
        (("", "", "", "", "", "", ""), 0, ("", "")),
        (("", "", "", "", "", "", ""), 1, ("2", "4")),
    ],
)
def test_it_ends_where_the_headings_change(
    headings: tuple[str, ...], neighbors: int, expected: tuple[str, str]
) -> None:
    assert ids(within_section(around(3, chunks(*headings)), neighbors)) == expected


def test_the_farther_part_of_a_section_is_left_out_first() -> None:
    document = chunks(*["a"] * 7)
    passage = around(3, document)
    assert [chunk.id for chunk in candidates([passage])] == ["3", "2", "4", "1", "5", "0", "6"]
    tokens = dict.fromkeys("0123456", 10)
    (source,) = pack([passage], tokens, Budget(45, 2, 8))
    assert source.text == "text 2 text 3 text 4 "


def test_of_very_long_sections_only_the_near_part_comes_into_question() -> None:
    passages = []
    for name in "abcdefgh":
        document = [
            replace(chunk, document=name, id=f"{name}{chunk.id}", text=f"{name}{chunk.index:05d} ")
            for chunk in chunks(*["a"] * 21)
        ]
        passages.append(around(10, document))
    found = candidates(passages)
    assert len(found) == len(passages) + MAX_NEIGHBORS
    assert [chunk.id for chunk in found[8:12]] == ["a9", "a11", "a8", "a12"]


@pytest.fixture
def settings(settings: OrchestratorSettings) -> OrchestratorSettings:
    return settings.model_copy(update={"sections": True, "passage_limit": 1})


async def test_the_model_sees_the_section(mesh: FakeMesh, client: Client) -> None:
    document = mesh.add_document(
        "kiln.md", "Kiln care\n\nThe kiln cools for thirty hours.\n\nThen it is opened.\n\nPrices"
    )
    own = [chunk for chunk in mesh.retriever.chunks if chunk.document == document]
    for chunk in own[:3]:
        chunk.headings.append("Kiln care")
    own[3].headings.append("Prices")
    mesh.generator.script = ["Thirty hours [1]."]
    answer = await client.answer("How long does the kiln cool, thirty hours?")
    assert mesh.retriever.searches[-1].neighbors == LONGEST_REACH
    assert "".join(source.text for source in answer.sources).count("kiln cools") == 1
    seen = {chunk for source in answer.sources for chunk in source.chunks}
    assert seen == {chunk.id for chunk in own[:3]}


def test_a_replaced_chunk_is_not_its_neighbour() -> None:
    document = chunks("a", "a")
    lonely = within_section(replace(around(0, document), after=()), 3)
    assert ids(lonely) == ("", "")
