"""Answers that are given again: the same events, said to be kept, and never stale."""

import asyncio
import json

import pytest

from mesh.errors import Unavailable
from murphey.generator.v1 import generator_pb2, sampling_pb2
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.retriever.v1 import filter_pb2
from murphey.retriever.v1.cache_pb2 import CacheControl
from orchestrator.settings import OrchestratorSettings
from tests.orchestrator.conftest import Client
from tests.orchestrator.fakes import FakeMesh
from tests.orchestrator.test_cli import ask

QUESTION = "Which leader swore fealty to King Charles III?"
SAMPLED = sampling_pb2.SamplingParams(temperature=0.7)


@pytest.fixture
def settings(settings: OrchestratorSettings) -> OrchestratorSettings:
    return settings.model_copy(update={"answer_cache_mb": 1})


@pytest.fixture(autouse=True)
def script(mesh: FakeMesh) -> None:
    mesh.generator.script = ["Rollo swore ", "fealty to King Charles III [1]. ", "He ", "ruled [1]", "."]


async def create(client: Client) -> str:
    return (await client.stub.CreateConversation(pb.CreateConversationRequest())).conversation.name


async def test_the_same_events_come_again_and_say_so(mesh: FakeMesh, client: Client) -> None:
    first, again = await client.events(QUESTION), await client.events(QUESTION)
    assert len(mesh.generator.requests) == len(mesh.retriever.searches) == 1
    kinds = [event.WhichOneof("event") for event in again]
    assert (kinds[:3], kinds[-1]) == (["started", "passages", "delta"], "finish")
    assert again[1].passages == first[1].passages
    assert "".join(event.delta.text for event in again) == "".join(event.delta.text for event in first)
    citations = [[event.citation for event in events if event.HasField("citation")] for events in (first, again)]
    assert citations[0] == citations[1] != []
    made, kept = first[-1].finish, again[-1].finish
    assert not made.HasField("cached")
    assert kept.cached.answer_id == first[0].started.answer_id != again[0].started.answer_id
    assert kept.cached.usage == made.usage
    assert kept.usage == generator_pb2.Usage()
    assert kept.versions == made.versions
    assert kept.versions.corpus == f"v{mesh.retriever.corpus}"
    assert (kept.outcome, kept.reason, kept.dropped_markers) == (made.outcome, made.reason, made.dropped_markers)
    assert kept.timings.total.ToMicroseconds() >= kept.timings.first_token.ToMicroseconds() > 0
    assert not kept.timings.generate.ListFields()[0][1].ToMicroseconds()


async def test_a_whole_answer_is_the_same_as_a_stream(mesh: FakeMesh, client: Client) -> None:
    whole = await client.answer(QUESTION)
    events = await client.events(QUESTION)
    assert events[-1].finish.cached.answer_id == whole.answer_id
    assert "".join(event.delta.text for event in events) == whole.text


async def test_a_changed_corpus_makes_it_unreachable(mesh: FakeMesh, client: Client) -> None:
    await client.answer(QUESTION)
    mesh.add_document("news.txt", "King Charles III has another leader who swore fealty: Hrolf.")
    answer = await client.answer(QUESTION)
    assert not answer.finish.HasField("cached")
    assert len(mesh.retriever.searches) == 2
    assert (await client.answer(QUESTION)).finish.cached.answer_id == answer.answer_id


async def test_what_was_found_before_a_change_is_not_kept_under_the_state_after_it(
    mesh: FakeMesh, client: Client
) -> None:
    mesh.retriever.hold = asyncio.Event()
    asked = asyncio.create_task(client.answer(QUESTION))
    await asyncio.wait_for(mesh.retriever.searching.wait(), 10)
    mesh.add_document("news.txt", "King Charles III has another leader who swore fealty: Hrolf.")
    mesh.retriever.hold.set()
    stale = await asked
    assert stale.finish.versions.corpus != f"v{mesh.retriever.corpus}"
    assert not (await client.answer(QUESTION)).finish.HasField("cached")
    assert (await client.answer(QUESTION)).finish.versions.corpus == f"v{mesh.retriever.corpus}"


async def test_only_an_answer_that_would_be_given_again_has_the_state_asked_for(mesh: FakeMesh, client: Client) -> None:
    await client.answer(QUESTION)
    await client.answer("Who ruled until 927?")
    await client.answer(QUESTION, cache=CacheControl(no_cache=True, no_store=True))
    assert not mesh.retriever.asked_states
    assert (await client.answer(QUESTION)).finish.HasField("cached")
    assert mesh.retriever.asked_states == 1


async def test_another_question_is_not_answered_from_it(mesh: FakeMesh, client: Client) -> None:
    await client.answer(QUESTION)
    exists = filter_pb2.FieldCondition(field="display_name", exists=True)
    others: list[dict[str, object]] = [
        {"filter": filter_pb2.Filter(must=[filter_pb2.Condition(field=exists)])},
        {"passage_limit": 7},
        {"sampling": sampling_pb2.SamplingParams(max_tokens=100)},
        {"sampling": sampling_pb2.SamplingParams(stop=["."])},
    ]
    for other in others:
        assert not (await client.answer(QUESTION, **other)).finish.HasField("cached"), other
        assert (await client.answer(QUESTION, **other)).finish.HasField("cached"), other
    assert not (await client.answer(QUESTION + " ")).finish.HasField("cached")


async def test_a_call_may_want_nothing_of_it(mesh: FakeMesh, client: Client) -> None:
    await client.answer(QUESTION, cache=CacheControl(no_store=True))
    assert not (await client.answer(QUESTION, cache=CacheControl(no_cache=True))).finish.HasField("cached")
    assert [search.cache.no_cache for search in mesh.retriever.searches] == [False, True]
    assert (await client.answer(QUESTION)).finish.HasField("cached")
    old = CacheControl()
    old.max_age.SetInParent()
    assert not (await client.answer(QUESTION, cache=old)).finish.HasField("cached")


async def test_what_was_drawn_by_chance_is_kept_only_on_request(mesh: FakeMesh, client: Client) -> None:
    for _ in range(2):
        assert not (await client.answer(QUESTION, sampling=SAMPLED)).finish.HasField("cached")
    either = CacheControl(sampled=True)
    assert not (await client.answer(QUESTION, sampling=SAMPLED, cache=either)).finish.HasField("cached")
    assert (await client.answer(QUESTION, sampling=SAMPLED, cache=either)).finish.HasField("cached")
    assert not (await client.answer(QUESTION, sampling=SAMPLED)).finish.HasField("cached")
    seeded = sampling_pb2.SamplingParams(temperature=0.7, seed=7)
    await client.answer(QUESTION, sampling=seeded)
    assert (await client.answer(QUESTION, sampling=seeded)).finish.HasField("cached")


async def test_an_answer_that_breaks_off_is_not_kept(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.failure_after = Unavailable("The engine died.")
    with pytest.raises(Exception, match="engine died"):
        await client.answer(QUESTION)
    mesh.generator.failure_after = None
    assert not (await client.answer(QUESTION)).finish.HasField("cached")


async def test_an_answer_whose_reader_left_is_not_kept(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.hold_after = 2
    call = client.stub.StreamAnswer(pb.StreamAnswerRequest(question=pb.Question(text=QUESTION)))
    async for event in call:
        if event.HasField("delta"):
            break
    call.cancel()
    await asyncio.wait_for(mesh.generator.cancelled.wait(), 10)
    mesh.generator.hold_after = None
    assert not (await client.answer(QUESTION)).finish.HasField("cached")


async def test_an_answer_without_its_citations_checked_is_not_kept(mesh: FakeMesh, client: Client) -> None:
    mesh.ingest.failure = Unavailable("Ingest restarts.")
    assert not (await client.answer(QUESTION)).citations
    mesh.ingest.failure = None
    answer = await client.answer(QUESTION)
    assert answer.citations
    assert not answer.finish.HasField("cached")


async def test_a_declined_question_is_declined_again(mesh: FakeMesh, client: Client) -> None:
    question = "Which chess opening did Bobby Fischer play against Spassky?"
    first, again = await client.answer(question), await client.answer(question)
    assert (again.text, again.finish.outcome) == (first.text, pb.OUTCOME_DECLINED)
    assert again.finish.cached.answer_id == first.answer_id


async def test_a_conversations_turns_are_part_of_the_question(mesh: FakeMesh, client: Client) -> None:
    one, two = await create(client), await create(client)
    first = await client.answer(QUESTION, conversation=one)
    again = await client.answer(QUESTION, conversation=two)
    assert again.finish.cached.answer_id == first.answer_id
    assert (again.finish.conversation, first.finish.conversation) == (two, one)
    assert not (await client.answer(QUESTION, conversation=one)).finish.HasField("cached")
    assert (await client.answer(QUESTION, conversation=two)).finish.HasField("cached")
    kept = [
        (await client.stub.GetConversation(pb.GetConversationRequest(name=name))).conversation for name in (one, two)
    ]
    assert kept[1].turn_count == 2
    assert kept[1].turns[0].answer_id == again.answer_id
    assert [list(turn.citations) for turn in kept[1].turns] == [list(turn.citations) for turn in kept[0].turns]


async def test_what_was_said_in_a_deleted_conversation_is_not_said_again(mesh: FakeMesh, client: Client) -> None:
    name = await create(client)
    await client.answer(QUESTION, conversation=name)
    await client.stub.DeleteConversation(pb.DeleteConversationRequest(name=name))
    assert not (await client.answer(QUESTION)).finish.HasField("cached")


async def test_another_version_of_the_model_is_asked(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.name = "models/one"
    await client.answer(QUESTION, model="models/one")
    mesh.generator.name = "models/two"
    assert not (await client.answer(QUESTION, model="models/two")).finish.HasField("cached")


async def test_what_a_model_that_stood_in_for_another_said_is_not_kept(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.answering_version = "of a smaller model in the chain"
    await client.answer(QUESTION)
    mesh.generator.answering_version = "1"
    assert not (await client.answer(QUESTION)).finish.HasField("cached")
    assert (await client.answer(QUESTION)).finish.HasField("cached")


async def test_the_command_says_so(mesh: FakeMesh, client: Client) -> None:
    first = json.loads((await ask(QUESTION, "--target", client.target, "--json")).stdout)
    again = await ask(QUESTION, "--target", client.target)
    assert again.stdout.startswith(first["answer"])
    assert f"kept from answer {first['answer_id']}" in again.stderr
    value = json.loads((await ask(QUESTION, "--target", client.target, "--json")).stdout)
    assert (value["cached_from"], value["usage"]["completion_tokens"]) == (first["answer_id"], 0)
    anew = json.loads((await ask(QUESTION, "--target", client.target, "--json", "--no-cache")).stdout)
    assert anew["cached_from"] is None
    assert len(mesh.generator.requests) == 2
