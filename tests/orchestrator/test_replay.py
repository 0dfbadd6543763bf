"""Replays: the same again, and what differs when something has changed."""

import json

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from murphey.generator.v1 import sampling_pb2
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from orchestrator.comparing import Change, compared
from tests.orchestrator.conftest import Client
from tests.orchestrator.fakes import FakeMesh
from tests.orchestrator.test_cli import murphey

QUESTION = "Which leader swore fealty to King Charles III?"


@pytest.fixture(autouse=True)
def script(mesh: FakeMesh) -> None:
    mesh.generator.script = ["Rollo swore fealty to King Charles III [1]."]


async def replay(client: Client, answer_id: str, model: str = "") -> pb.ReplayAnswerResponse:
    return await client.stub.ReplayAnswer(pb.ReplayAnswerRequest(name=f"answers/{answer_id}", model=model))


async def test_nothing_has_changed(mesh: FakeMesh, client: Client) -> None:
    sampling = sampling_pb2.SamplingParams(temperature=0.7)
    answer = await client.answer(QUESTION, sampling=sampling, passage_limit=3)
    done = await replay(client, answer.answer_id)
    assert done.difference.same
    assert [(piece.change, piece.text) for piece in done.difference.text] == [(pb.TEXT_CHANGE_SAME, answer.text)]
    assert not done.difference.changed_versions
    assert (done.before.name, done.after.name) == (f"answers/{answer.answer_id}", "")
    assert done.after.text == done.before.text == answer.text
    first, second = mesh.generator.requests
    assert second.prompt == first.prompt
    assert second.sampling == first.sampling
    assert second.sampling.HasField("seed")
    assert [search.limit for search in mesh.retriever.searches] == [3, 3]
    assert mesh.retriever.searches[1].cache.no_cache
    assert done.after.finish.timings.total.ToMicroseconds() > 0
    listed = await client.stub.ListAnswers(pb.ListAnswersRequest())
    assert len(listed.answers) == 1  # a replay is not recorded


async def test_what_differs_is_shown(mesh: FakeMesh, client: Client) -> None:
    answer = await client.answer(QUESTION)
    mesh.delete_document(answer.citations[0].document)
    mesh.add_document("more.txt", "A leader, Hrolf, swore fealty to King Charles III in 911.")
    mesh.generator.script = ["Hrolf swore fealty to King Charles III [1]."]
    found = (await replay(client, answer.answer_id)).difference
    assert not found.same
    assert [(piece.change, piece.text) for piece in found.text] == [
        (pb.TEXT_CHANGE_REMOVED, "Rollo "),
        (pb.TEXT_CHANGE_ADDED, "Hrolf "),
        (pb.TEXT_CHANGE_SAME, "swore fealty to King Charles III [1]."),
    ]
    assert "more.txt" in [source.display_name for source in found.gained_sources]
    assert "normans.txt" in [source.display_name for source in found.lost_sources]
    assert [citation.quote for citation in found.gained_citations] == [
        "A leader, Hrolf, swore fealty to King Charles III in 911."
    ]
    assert [citation.display_name for citation in found.lost_citations] == ["normans.txt"]
    assert list(found.changed_versions) == ["corpus"]


async def test_another_model_is_asked(mesh: FakeMesh, client: Client) -> None:
    answer = await client.answer(QUESTION)
    mesh.generator.name = "models/other"
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await replay(client, answer.answer_id, "models/third")
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND
    await replay(client, answer.answer_id, "models/other")
    assert mesh.generator.requests[-1].model == "models/other"


async def test_earlier_turns_are_those_of_then(mesh: FakeMesh, client: Client) -> None:
    name = (await client.stub.CreateConversation(pb.CreateConversationRequest())).conversation.name
    await client.answer(QUESTION, conversation=name)
    mesh.generator.script = ["Until 927 [1]."]
    second = await client.answer("And until when?", conversation=name)
    prompt = mesh.generator.requests[-1].prompt
    await client.answer("And where?", conversation=name)
    done = await replay(client, second.answer_id)
    assert done.difference.same
    assert mesh.generator.requests[-1].prompt == prompt
    kept = await client.stub.GetConversation(pb.GetConversationRequest(name=name))
    assert kept.conversation.turn_count == 3


async def test_an_unknown_answer_is_not_found(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await replay(client, "none")
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND


async def test_the_command_tells_by_its_exit_code(mesh: FakeMesh, client: Client) -> None:
    answer = await client.answer(QUESTION)
    at = ("--target", client.target)
    same = await murphey("replay", answer.answer_id, *at)
    assert same.exit_code == 0, same.output
    assert "the same" in same.stdout
    mesh.generator.script = ["Rollo the Norseman swore fealty to King Charles III [1]."]
    other = await murphey("replay", f"answers/{answer.answer_id}", *at)
    assert other.exit_code == 3
    assert "Rollo {+the Norseman+} swore" in other.stdout
    value = json.loads((await murphey("replay", answer.answer_id, "--json", *at)).stdout)
    assert value["same"] is False
    assert {"change": "added", "text": "the Norseman "} in value["text"]
    assert (value["before"]["answer_id"], value["after"]["answer_id"]) == (answer.answer_id, None)
    assert (await murphey("replay", "none", *at)).exit_code == 1


WORDS = st.lists(st.sampled_from(["tea ", "milk", " and\n", "\t", "cake. ", "tea"]), max_size=12).map("".join)


@given(WORDS, WORDS)
def test_pieces_make_up_both_texts(before: str, after: str) -> None:
    pieces = compared(before, after)
    assert "".join(piece.text for piece in pieces if piece.change is not Change.ADDED) == before
    assert "".join(piece.text for piece in pieces if piece.change is not Change.REMOVED) == after
    assert (before == after) == all(piece.change is Change.SAME for piece in pieces)
