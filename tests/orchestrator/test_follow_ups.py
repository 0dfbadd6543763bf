"""Follow-up questions are made to stand alone, by an able model or by the rule, and the caller sees how."""

import pytest

from mesh.errors import InvalidInput
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from tests.orchestrator.conftest import Client
from tests.orchestrator.fakes import FakeMesh

FIRST, SECOND = "Which leader swore fealty to King Charles III?", "Until when did he rule?"
REWRITTEN = "Until when did the leader Rollo rule?"


async def conversation(mesh: FakeMesh, client: Client) -> str:
    """One that has asked FIRST."""
    made = await client.stub.CreateConversation(pb.CreateConversationRequest())
    mesh.generator.script = ["Rollo swore fealty to King Charles III [1]."]
    await client.answer(FIRST, conversation=made.conversation.name)
    return made.conversation.name


async def test_an_able_model_rewrites_and_the_caller_sees_it(mesh: FakeMesh, client: Client) -> None:
    name = await conversation(mesh, client)
    mesh.generator.script = [REWRITTEN]
    events = await client.events(SECOND, conversation=name)
    assert events[0].started.standalone_question == REWRITTEN
    assert mesh.retriever.searches[-1].text == REWRITTEN
    rewriting, answering = mesh.generator.requests[-2:]
    assert rewriting.sampling.guidance.regex
    prompt = rewriting.prompt.chat.messages[0].parts[0].text
    assert FIRST in prompt
    assert prompt.endswith(f"Next question: {SECOND}")
    assert answering.prompt.chat.messages[-1].parts[0].text.endswith(f"Question: {SECOND}")


@pytest.mark.parametrize("said", ["He ruled until 927.", "Is it true that bananas grow in Iceland?", "", "Why? " * 200])
async def test_what_is_no_such_question_is_not_taken(mesh: FakeMesh, client: Client, said: str) -> None:
    name = await conversation(mesh, client)
    mesh.generator.script = [said] if said else []
    answer = await client.answer(SECOND, conversation=name)
    assert answer.standalone_question == f"{FIRST} {SECOND}"


async def test_small_models_go_by_the_rule(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.name = "models/smollm2-135m-instruct"
    name = await conversation(mesh, client)
    before = len(mesh.generator.requests)
    answer = await client.answer(SECOND, conversation=name)
    assert answer.standalone_question == mesh.retriever.searches[-1].text == f"{FIRST} {SECOND}"
    assert len(mesh.generator.requests) == before + 1


async def test_a_question_that_stands_alone_stays(mesh: FakeMesh, client: Client) -> None:
    name = await conversation(mesh, client)
    before = len(mesh.generator.requests)
    mesh.generator.script = ["Tides are caused by the gravity of the moon [1]."]
    answer = await client.answer("Which force causes the tides in northern harbours?", conversation=name)
    assert answer.standalone_question == ""
    assert len(mesh.generator.requests) == before + 1


async def test_a_model_that_takes_no_guidance_is_no_failure(mesh: FakeMesh, client: Client) -> None:
    name = await conversation(mesh, client)
    mesh.generator.refuses_guidance = InvalidInput("This engine takes no guidance.", field="sampling.guidance")
    answer = await client.answer(SECOND, conversation=name)
    assert answer.standalone_question == f"{FIRST} {SECOND}"
    assert answer.citations
