"""Questions that need two facts: which they are, what is searched for next, and what of it reaches the model and the reader."""

import json

import pytest

from mesh.errors import Overloaded
from orchestrator.splitting import Split, merged, names, needs_two_facts, second_search
from tests.orchestrator.conftest import Client
from tests.orchestrator.fakes import FakeMesh
from tests.orchestrator.test_cli import ask
from tests.orchestrator.test_relevance import passage

QUESTION = "Which post was held by the woman who played Corliss Archer?"
FILM = "Kiss and Tell is a film of 1945 in which Shirley Temple played Corliss Archer."
TEMPLE = "Shirley Temple was named Chief of Protocol; the post was a high one."
OFFICE = "A woman held an office."


@pytest.mark.parametrize(
    "question",
    [
        QUESTION, "Brown Lake is in a country that has a population of how many inhabitants?",
        "Were Scott Derrickson and Ed Wood of the same nationality?", "Are Cypress and Ajuga both genera?",
        "Tysons Galleria is located in what county?",
    ],
)  # fmt: skip
def test_two_facts_are_told_by_words(question: str) -> None:
    assert needs_two_facts(question)
    assert Split.LIKELY.applies(question)
    assert not Split.NEVER.applies(question)


@pytest.mark.parametrize(
    "question",
    ["Which leader swore fealty to King Charles III?", "In what year was Warsaw rebuilt?", "How hot is the kiln?",
     "What do salt and pepper cost?", "kiln temperature"],
)  # fmt: skip
def test_one_fact_is_enough(question: str) -> None:
    assert not needs_two_facts(question)
    assert Split.ALWAYS.applies(question)


def test_names_are_runs_of_capitals() -> None:
    assert names("The Norman Rollo met King Charles III. He left the University of Chicago in 1911.") == [
        "Norman Rollo", "King Charles III", "University of Chicago",
    ]  # fmt: skip
    assert names("nothing here") == []


def test_the_second_search_is_for_what_is_open_and_for_what_was_found() -> None:
    assert second_search(QUESTION, passage(FILM, 0.5)).split() == [
        "post", "held", "woman", "Kiss", "Tell", "Shirley", "Temple",
    ]  # fmt: skip
    assert second_search("Who played Corliss Archer?", passage(FILM, 0.5)) == ""


def test_lists_are_merged_in_turns_and_each_turn_brings_a_new_passage() -> None:
    from dataclasses import replace

    def found(identifier: str):
        whole = passage(identifier, 0.5)
        return replace(whole, chunk=replace(whole.chunk, id=identifier))

    a, b, c, d = map(found, "abcd")
    assert [one.chunk.id for one in merged([a, b, c], [a, d, b], 10)] == ["a", "d", "b", "c"]
    assert [one.chunk.id for one in merged([a, b, c], [d], 2)] == ["a", "d"]
    assert merged([], [], 3) == ()


@pytest.fixture
def film(mesh: FakeMesh) -> FakeMesh:
    for number, text in enumerate((FILM, TEMPLE, OFFICE)):
        mesh.add_document(f"{number}.txt", text)
    mesh.generator.script = ["Chief of Protocol [2]."]
    return mesh


async def test_what_was_searched_for_is_in_the_events(film: FakeMesh, client: Client) -> None:
    events = await client.events(QUESTION, passage_limit=2)
    texts = [search.text for search in film.retriever.searches]
    assert texts[0] == QUESTION
    assert list(events[0].started.further_searches) == texts[1:] != []
    assert [source.text for source in events[1].passages.sources] == [FILM, TEMPLE]
    whole = await client.answer(QUESTION, passage_limit=2)
    assert list(whole.further_searches) == texts[1:]
    assert events[-1].finish.versions.corpus == f"v{film.retriever.corpus}"


async def test_it_can_be_left_out_or_asked_for(film: FakeMesh, client: Client) -> None:
    assert not (await client.answer(QUESTION, split=False)).further_searches
    assert len(film.retriever.searches) == 1
    assert not (await client.answer("Who held the post?")).further_searches
    assert (await client.answer("Who held the Protocol post in Temple's time?", split=True)).further_searches


async def test_only_the_question_itself_tells_whether_the_documents_speak_of_it(mesh: FakeMesh, client: Client) -> None:
    """What a second search finds fits the second search: it is no sign that the question can be answered."""
    mesh.add_document("names.txt", "Charles Darwin Kepler Newton.")
    answer = await client.answer("Which chess opening did the man who met Darwin Zugzwang Petrosian play?", split=True)
    assert len(mesh.retriever.searches) == 2
    assert not answer.sources
    assert "do not know" in answer.text


async def test_without_its_second_search_a_question_is_answered_from_the_first(film: FakeMesh, client: Client) -> None:
    film.retriever.failure_of_search = lambda text: Overloaded("Busy.") if text != QUESTION else None
    answer = await client.answer(QUESTION, passage_limit=2)
    assert [source.text for source in answer.sources] == [FILM, OFFICE]
    assert not answer.further_searches
    assert not answer.finish.versions.corpus, "such an answer is not kept"


async def test_the_command_tells_what_was_searched_for(film: FakeMesh, client: Client) -> None:
    shown = await ask(QUESTION, "--target", client.target)
    assert "searched for as well: post held woman" in shown.stderr.replace("\n", " ")
    value = json.loads((await ask(QUESTION, "--target", client.target, "--json", "--no-split")).stdout)
    assert value["further_searches"] == []
