"""Feedback on answers: kept with the answer, shown with it, gone with it."""

import json
from pathlib import Path

import grpc
import pytest

from mesh.database import database_url, open_database
from mesh.errors import NotFound
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from orchestrator.record_storage import StoredRecords
from orchestrator.requests import read_feedback
from tests.mesh.migrating import take_back
from tests.orchestrator.conftest import Client
from tests.orchestrator.fakes import FakeMesh
from tests.orchestrator.test_cli import murphey
from tests.orchestrator.test_records import LONG, QUESTION, get, record


@pytest.fixture(autouse=True)
def script(mesh: FakeMesh) -> None:
    mesh.generator.script = ["Rollo swore fealty to King Charles III [1]."]


async def rate(client: Client, answer_id: str, **said: object) -> pb.Feedback:
    feedback = pb.Feedback(**({"rating": pb.RATING_GOOD} | said))  # pyright: ignore[reportArgumentType]
    return (await client.stub.RateAnswer(pb.RateAnswerRequest(name=f"answers/{answer_id}", feedback=feedback))).feedback


async def test_it_is_kept_with_the_answer_and_the_latest_holds(mesh: FakeMesh, client: Client) -> None:
    answer, other = await client.answer(QUESTION), await client.answer(QUESTION + " ")
    assert not (await get(client, answer.answer_id)).HasField("feedback")
    said = {"rating": pb.RATING_BAD, "better_answer": " Rollo [1]. ", "comment": "wordy", "training_consent": True}
    kept = await rate(client, answer.answer_id, **said)
    assert (kept.better_answer, kept.training_consent) == ("Rollo [1].", True)
    assert (await get(client, answer.answer_id)).feedback == kept
    (listed,) = (await client.stub.ListAnswers(pb.ListAnswersRequest(rated=True))).answers
    assert (listed.name, listed.feedback) == (f"answers/{answer.answer_id}", kept)
    again = await rate(client, answer.answer_id)
    assert (await get(client, answer.answer_id)).feedback == again
    assert (again.better_answer, again.comment, again.training_consent) == ("", "", False), "taken back"
    assert not (await get(client, other.answer_id)).HasField("feedback")


async def test_it_goes_with_the_answer(client: Client) -> None:
    name = (await client.stub.CreateConversation(pb.CreateConversationRequest())).conversation.name
    for conversation, remove, request in (
        ("", client.stub.DeleteAnswer, pb.DeleteAnswerRequest),
        (name, client.stub.DeleteConversation, pb.DeleteConversationRequest),
    ):
        answer = await client.answer(QUESTION, conversation=conversation)
        await rate(client, answer.answer_id)
        await remove(request(name=conversation or f"answers/{answer.answer_id}"))
        assert not (await client.stub.ListAnswers(pb.ListAnswersRequest(rated=True))).answers
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await rate(client, answer.answer_id)
        assert failed.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"rating": pb.RATING_UNSPECIFIED}, "feedback.rating"),
        ({"rating": 7}, "feedback.rating"),
        ({"better_answer": "x" * 8193}, "feedback.better_answer"),
        ({"comment": "x" * 2001}, "feedback.comment"),
    ],
)
async def test_what_is_no_feedback_is_refused(client: Client, said: dict[str, object], field: str) -> None:
    answer = await client.answer(QUESTION)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await rate(client, answer.answer_id, **said)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field.encode() in dict(failed.value.trailing_metadata() or ())["grpc-status-details-bin"]  # pyright: ignore
    assert not (await get(client, answer.answer_id)).HasField("feedback")


async def test_the_command(client: Client) -> None:
    answer = await client.answer(QUESTION)
    at = ("--target", client.target)
    told = ("--down", "--better", "Rollo did [1].", "--comment", "[not] brief", "--train")
    done = await murphey("feedback", answer.answer_id, *told, *at, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["answer_id"] == answer.answer_id
    shown = json.loads((await murphey("answers", "show", answer.answer_id, "--json", *at)).stdout)["feedback"]
    assert shown.pop("time")
    assert shown == {
        "good": False, "better_answer": "Rollo did [1].", "comment": "[not] brief", "training_consent": True,
    }  # fmt: skip
    assert "Rated not good; better: Rollo did [1].; “[not] brief”" in (
        await murphey("answers", "show", answer.answer_id, *at)
    ).stdout.replace("\n", " ")
    assert len((await murphey("answers", "list", "--rated", *at)).stdout.splitlines()) > 1
    undecided = await murphey("feedback", answer.answer_id, *at)
    assert undecided.exit_code == 2
    missing = await murphey("feedback", "a1b2", "--up", *at)
    assert missing.exit_code == 1
    assert "answers/a1b2" in missing.stderr


async def test_a_folder_from_before_feedback_opens(tmp_path: Path) -> None:
    url = database_url("", tmp_path, "orchestrator")
    async with open_database(url, "orchestrator") as engine:
        await StoredRecords(engine, 3, LONG).add(record(1))
        await take_back(engine, "orchestrator", "0003")
    async with open_database(url, "orchestrator") as engine:
        kept = StoredRecords(engine, 3, LONG)
        assert await kept.get("a1") == record(1, (await kept.get("a1")).create_time)
        said = read_feedback(pb.Feedback(rating=pb.RATING_BAD))
        await kept.rate("a1", said)
        assert (await kept.get("a1")).feedback == said
        with pytest.raises(NotFound):
            await kept.rate("a2", said)
