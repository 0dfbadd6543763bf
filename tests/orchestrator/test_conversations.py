"""Conversations: kept over a restart, seen by the model, continued by follow-up questions."""

import asyncio

import grpc
import pytest

from mesh.channel import open_channel
from mesh.server import serving
from murphey.generator.v1 import generator_pb2
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from orchestrator.app import SERVICE, open_service
from orchestrator.conversations import search_text
from orchestrator.settings import OrchestratorSettings
from tests.orchestrator.conftest import Client
from tests.orchestrator.fakes import FakeMesh

FIRST = "Which leader swore fealty to King Charles III?"


async def create(client: Client, title: str = "") -> str:
    made = await client.stub.CreateConversation(pb.CreateConversationRequest(title=title))
    return made.conversation.name


async def get(client: Client, name: str) -> pb.Conversation:
    return (await client.stub.GetConversation(pb.GetConversationRequest(name=name))).conversation


async def test_an_answer_is_added_with_its_citations(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.script = ["Rollo swore fealty to King Charles III [1]."]
    name = await create(client)
    answer = await client.answer(FIRST, conversation=name)
    assert answer.finish.conversation == name
    kept = await get(client, name)
    (turn,) = kept.turns
    assert (kept.title, kept.turn_count) == (FIRST, 1)
    assert (turn.answer_id, turn.question, turn.answer) == (answer.answer_id, FIRST, answer.text)
    assert list(turn.citations) == list(answer.citations)
    assert turn.versions == answer.finish.versions
    assert kept.update_time.ToMicroseconds() >= kept.create_time.ToMicroseconds() > 0


async def test_earlier_turns_reach_the_prompt_and_the_search(mesh: FakeMesh, client: Client) -> None:
    name = await create(client, "Normans")
    mesh.generator.script = ["Rollo [1]."]
    await client.answer(FIRST, conversation=name)
    mesh.generator.script = ["Until 927 [1]."]
    await client.answer("And until when?", conversation=name)
    messages = mesh.generator.requests[-1].prompt.chat.messages
    said = [(message.role, message.parts[0].text) for message in messages]
    assert said[1:3] == [(generator_pb2.ROLE_USER, FIRST), (generator_pb2.ROLE_ASSISTANT, "Rollo [1].")]
    assert mesh.retriever.searches[-1].text == f"{FIRST} And until when?"
    assert (await get(client, name)).title == "Normans"


async def test_the_oldest_turns_are_dropped_first(mesh: FakeMesh, client: Client) -> None:
    name = await create(client)
    for number in range(3):
        mesh.generator.script = [f"Rollo {number} [1]. " + "word " * 500]
        await client.answer(f"{FIRST} ({number})", conversation=name)
    mesh.generator.script = ["Rollo [1]."]
    await client.answer(FIRST, conversation=name)
    messages = mesh.generator.requests[-1].prompt.chat.messages
    earlier = [message.parts[0].text for message in messages if message.role == generator_pb2.ROLE_ASSISTANT]
    assert len(earlier) == 1  # 1,024 tokens hold one of them
    assert earlier[0].startswith("Rollo 2")


async def test_an_answer_that_breaks_off_is_not_added(mesh: FakeMesh, client: Client) -> None:
    name = await create(client)
    mesh.generator.script = ["Rollo ", "never ends"]
    mesh.generator.hold_after = 1
    request = pb.StreamAnswerRequest(question=pb.Question(text=FIRST, conversation=name))
    call = client.stub.StreamAnswer(request)
    async for event in call:
        if event.WhichOneof("event") == "delta":
            break
    call.cancel()
    await asyncio.wait_for(mesh.generator.cancelled.wait(), 5)
    assert (await get(client, name)).turn_count == 0


async def test_a_conversation_deleted_meanwhile_does_not_spoil_the_answer(mesh: FakeMesh, client: Client) -> None:
    name = await create(client)
    mesh.generator.script = ["Rollo [1]."]
    call = client.stub.StreamAnswer(pb.StreamAnswerRequest(question=pb.Question(text=FIRST, conversation=name)))
    mesh.retriever.hold = asyncio.Event()
    reading = asyncio.ensure_future(_all_of(call))
    await mesh.retriever.searching.wait()
    await client.stub.DeleteConversation(pb.DeleteConversationRequest(name=name))
    mesh.retriever.hold.set()
    assert (await reading)[-1].finish.conversation == ""


async def _all_of(call: grpc.aio.UnaryStreamCall) -> list[pb.StreamAnswerResponse]:
    return [event async for event in call]


async def test_pages_list_the_latest_first(mesh: FakeMesh, client: Client) -> None:
    names = [await create(client, f"Number {number}") for number in range(5)]
    mesh.generator.script = ["Rollo [1]."]
    await client.answer(FIRST, conversation=names[1])
    found, token = [], ""
    while True:
        request = pb.ListConversationsRequest(page_size=2, page_token=token)
        page = await client.stub.ListConversations(request)
        found += page.conversations
        token = page.next_page_token
        if not token:
            break
    assert [conversation.name for conversation in found] == [names[1], names[4], names[3], names[2], names[0]]
    assert found[0].turn_count == 1
    assert not found[0].turns


async def test_conversations_outlive_the_service(mesh: FakeMesh, settings: OrchestratorSettings) -> None:
    mesh.generator.script = ["Rollo [1]."]
    names: list[str] = []
    counts: list[int] = []
    for _ in range(2):
        async with (
            open_service(settings) as hosted,
            serving(settings, hosted) as port,
            open_channel(f"127.0.0.1:{port}", SERVICE, idempotent=[]) as channel,
        ):
            client = Client(OrchestratorServiceStub(channel), "")
            names = names or [await create(client)]
            await client.answer(FIRST, conversation=names[0])
            counts.append((await get(client, names[0])).turn_count)
    assert counts == [1, 2]


async def test_deleting_removes_the_turns(mesh: FakeMesh, client: Client) -> None:
    name = await create(client)
    await client.stub.DeleteConversation(pb.DeleteConversationRequest(name=name))
    for call, request in (
        (client.stub.GetConversation, pb.GetConversationRequest(name=name)),
        (client.stub.DeleteConversation, pb.DeleteConversationRequest(name=name)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(request)
        assert failed.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("call", "request_message"),
    [
        ("CreateConversation", pb.CreateConversationRequest(title="x" * 201)),
        ("GetConversation", pb.GetConversationRequest(name="nonsense")),
        ("ListConversations", pb.ListConversationsRequest(page_size=-1)),
        ("ListConversations", pb.ListConversationsRequest(page_token="???")),  # noqa: S106 - no password
        ("ListConversations", pb.ListConversationsRequest(page_token="bm8gdGltZQ==")),  # noqa: S106 - no password
    ],
)
async def test_bad_requests_are_refused(client: Client, call: str, request_message: object) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await getattr(client.stub, call)(request_message)
    assert failed.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("question", "earlier", "searched"),
    [
        ("and when?", ["Who was Rollo?"], "Who was Rollo? and when?"),
        ("Why did he do that to the king of France?", ["Who was Rollo?"],
         "Who was Rollo? Why did he do that to the king of France?"),
        ("Which forces cause tides in northern harbours?", ["Who was Rollo?"],
         "Which forces cause tides in northern harbours?"),
        ("and where?", ["Which battles did Rollo of Normandy fight?", "and when?"],
         "Which battles did Rollo of Normandy fight? and when? and where?"),
        ("and when?", [], "and when?"),
    ],
)  # fmt: skip
def test_what_a_follow_up_question_searches_for(question: str, earlier: list[str], searched: str) -> None:
    assert search_text(question, earlier) == searched
