"""Recorded answers: what is kept of them, for how long, and what makes them go."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from mesh.database import database_url, open_database
from mesh.errors import NotFound, Unavailable
from mesh.paging import encode_token
from murphey.generator.v1 import sampling_pb2
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.retriever.v1 import filter_pb2
from orchestrator.events import EngineTimings, Finish, Outcome, StopReason, Timings, Usage, Versions
from orchestrator.forgetting import Forgetting
from orchestrator.ports import CorpusVersion
from orchestrator.questions import Question
from orchestrator.record_storage import StoredRecords
from orchestrator.records import AnswerRecord
from orchestrator.settings import OrchestratorSettings
from tests.mesh.migrating import take_back
from tests.orchestrator.conftest import Client
from tests.orchestrator.fakes import FakeMesh
from tests.orchestrator.test_cli import murphey

LONG = timedelta(days=1)
QUESTION = "Which leader swore fealty to King Charles III?"


@pytest.fixture
def settings(settings: OrchestratorSettings) -> OrchestratorSettings:
    return settings.model_copy(update={"answer_cache_mb": 1})


@pytest.fixture(autouse=True)
def script(mesh: FakeMesh) -> None:
    mesh.generator.script = ["Rollo swore fealty to King Charles III [1]."]


async def get(client: Client, answer_id: str) -> pb.StoredAnswer:
    return (await client.stub.GetAnswer(pb.GetAnswerRequest(name=f"answers/{answer_id}"))).answer


async def is_there(client: Client, answer_id: str) -> bool:
    call = client.stub.GetAnswer(pb.GetAnswerRequest(name=f"answers/{answer_id}"))
    code = await call.code()
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND)
    return code is grpc.StatusCode.OK


async def gone(client: Client, answer_id: str) -> None:
    """Waits for the look at what was deleted."""
    give_up_s = time.monotonic() + 30
    while await is_there(client, answer_id):
        assert time.monotonic() < give_up_s
        await asyncio.sleep(0.05)


async def test_an_answer_is_kept_with_all_that_it_came_from(mesh: FakeMesh, client: Client) -> None:
    condition = filter_pb2.FieldCondition(field="display_name", exists=True)
    wanted = filter_pb2.Filter(must=[filter_pb2.Condition(field=condition)])
    sampling = sampling_pb2.SamplingParams(temperature=0.7, stop=["END"])
    answer = await client.answer(QUESTION, filter=wanted, passage_limit=3, sampling=sampling)
    kept = await get(client, answer.answer_id)
    assert (kept.name, kept.text, kept.question.text) == (f"answers/{answer.answer_id}", answer.text, QUESTION)
    assert (kept.question.filter, kept.question.passage_limit) == (wanted, 3)
    assert list(kept.citations) == list(answer.citations) != []
    assert [source.chunks for source in kept.sources] == [source.chunks for source in answer.sources]
    assert {source.text for source in kept.sources} == {""}
    assert kept.finish == answer.finish
    assert kept.finish.HasField("seed")
    assert kept.question.sampling.seed == answer.finish.seed == mesh.generator.requests[0].sampling.seed
    assert list(kept.question.sampling.stop) == ["END"]
    assert MessageToDict(kept.settings)["reach"]["passage_limit"] == 8
    assert kept.create_time.ToMicroseconds() > 0


async def test_no_seed_is_drawn_where_chance_has_no_part(mesh: FakeMesh, client: Client) -> None:
    answer = await client.answer(QUESTION)
    assert not mesh.generator.requests[0].sampling.HasField("seed")
    assert not (await get(client, answer.answer_id)).finish.HasField("seed")


async def test_an_answer_from_the_cache_is_kept_too(mesh: FakeMesh, client: Client) -> None:
    first, again = await client.answer(QUESTION), await client.answer(QUESTION)
    kept = await get(client, again.answer_id)
    assert kept.finish.cached.answer_id == first.answer_id
    assert kept.text == first.text


async def test_pages_list_the_latest_first(mesh: FakeMesh, client: Client) -> None:
    made = [(await client.answer(f"{QUESTION} ({number})")).answer_id for number in range(5)]
    found, token = [], ""
    while True:
        page = await client.stub.ListAnswers(pb.ListAnswersRequest(page_size=2, page_token=token))
        found += page.answers
        if not (token := page.next_page_token):
            break
    assert [answer.name for answer in found] == [f"answers/{answer}" for answer in reversed(made)]
    assert not found[0].sources
    assert found[0].text
    others = await client.stub.ListAnswers(pb.ListAnswersRequest(collection="collections/others"))
    assert not others.answers
    with pytest.raises(grpc.aio.AioRpcError, match="page_token"):
        await client.stub.ListAnswers(pb.ListAnswersRequest(page_token="bm8="))  # noqa: S106
    beyond = await client.stub.ListAnswers(pb.ListAnswersRequest(page_token=encode_token("9" * 30)))
    assert len(beyond.answers) == 5


async def test_deleting_one_makes_it_unreachable_everywhere(mesh: FakeMesh, client: Client) -> None:
    answer = await client.answer(QUESTION)
    await client.stub.DeleteAnswer(pb.DeleteAnswerRequest(name=f"answers/{answer.answer_id}"))
    assert not await is_there(client, answer.answer_id)
    assert not (await client.answer(QUESTION)).finish.HasField("cached")
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await client.stub.DeleteAnswer(pb.DeleteAnswerRequest(name=f"answers/{answer.answer_id}"))
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND


async def test_it_goes_with_its_conversation(mesh: FakeMesh, client: Client) -> None:
    name = (await client.stub.CreateConversation(pb.CreateConversationRequest())).conversation.name
    answer, other = await client.answer(QUESTION, conversation=name), await client.answer(QUESTION + " ")
    assert (await get(client, answer.answer_id)).question.conversation == name
    await client.stub.DeleteConversation(pb.DeleteConversationRequest(name=name))
    assert not await is_there(client, answer.answer_id)
    assert await is_there(client, other.answer_id)


async def test_it_goes_with_a_document_that_it_saw(mesh: FakeMesh, client: Client) -> None:
    answer = await client.answer(QUESTION)
    tides = await client.answer("What are tides caused by?", passage_limit=1)
    document = answer.citations[0].document
    assert document not in {source.document for source in tides.sources}
    mesh.delete_document(document)
    assert not (await client.answer(QUESTION)).finish.HasField("cached")
    await gone(client, answer.answer_id)
    assert await is_there(client, tides.answer_id)


async def test_what_cannot_be_told_now_goes_later(mesh: FakeMesh, client: Client) -> None:
    answer = await client.answer(QUESTION)
    mesh.ingest.failure = Unavailable("Ingest restarts.")
    mesh.delete_document(answer.citations[0].document)
    assert await is_there(client, answer.answer_id)
    mesh.ingest.failure = None
    await gone(client, answer.answer_id)


async def test_the_commands(mesh: FakeMesh, client: Client) -> None:
    answer = await client.answer(QUESTION)
    at = ("--target", client.target)
    listed = await murphey("answers", "list", *at)
    assert f"answers/{answer.answer_id}" in listed.stdout
    assert QUESTION in listed.stdout
    (summary,) = json.loads((await murphey("answers", "list", "--json", *at)).stdout)["answers"]
    assert (summary["answer_id"], summary["outcome"]) == (answer.answer_id, "answered")
    shown = await murphey("answers", "show", answer.answer_id, *at)
    assert answer.text in shown.stdout
    assert "normans.txt, page 2" in shown.stdout
    whole = json.loads((await murphey("answers", "show", f"answers/{answer.answer_id}", "--json", *at)).stdout)
    assert whole["citations"][0]["quote"] == answer.citations[0].quote
    assert whole["sources"][0]["chunks"]
    assert (await murphey("answers", "delete", answer.answer_id, *at)).exit_code == 0
    missing = await murphey("answers", "show", answer.answer_id, *at)
    assert missing.exit_code == 1
    assert answer.answer_id in missing.stderr


def record(number: int, create_time: datetime | None = None) -> AnswerRecord:
    timings = Timings(0.0, 0.0, EngineTimings(), 0.0, 0.1)
    finish = Finish(StopReason.STOP, Outcome.ANSWERED, Usage(), Versions(), timings)
    question = Question(f"Question {number}", "collections/default", search_filter=b"\xff\x00")
    return AnswerRecord(f"a{number}", question, "Yes.", (), (), finish, {}, create_time or datetime.now(UTC))


async def test_only_the_latest_are_kept_and_none_for_too_long(tmp_path: Path) -> None:
    async with open_database(f"sqlite+aiosqlite:///{tmp_path}/a.sqlite", "orchestrator") as engine:
        kept = StoredRecords(engine, 3, LONG)
        for number in range(5):
            await kept.add(record(number))
        found, _ = await kept.page("", 10, "")
        assert [each.id for each in found] == ["a4", "a3", "a2"]
        assert found[0].question == record(4).question
        await kept.add(record(5, datetime.now(UTC) - timedelta(days=2)))
        await kept.add(record(6))
        ids = [each.id for each in (await kept.page("", 10, ""))[0]]
        assert ids[:2] == ["a6", "a4"]
        assert len(ids) <= 3
        none = StoredRecords(engine, 0, LONG)
        await none.add(record(7))
        with pytest.raises(NotFound):
            await none.get("a7")


async def test_a_folder_from_before_records_opens(tmp_path: Path) -> None:
    url = database_url("", tmp_path, "orchestrator")
    async with open_database(url, "orchestrator") as engine:
        await take_back(engine, "orchestrator", "0001")
    async with open_database(url, "orchestrator") as engine:
        kept = StoredRecords(engine, 3, LONG)
        await kept.add(record(1))
        assert (await kept.get("a1")).text == "Yes."


async def test_an_ingest_that_is_away_is_not_asked_about_every_document() -> None:
    asked: list[str] = []

    async def away(document: str) -> bool:
        asked.append(document)
        raise Unavailable("Ingest restarts.")

    async def found(collection: str) -> CorpusVersion:
        return CorpusVersion(f"{collection} 1", "r1")

    async def many(*_: str) -> list[str]:
        return [f"collections/default/documents/d{number}" for number in range(100)]

    async def one() -> list[str]:
        return ["collections/default"]

    answerer: Any = SimpleNamespace(collections=set, forget_corpora_but=lambda collection, corpus: None)
    records: Any = SimpleNamespace(collections=one, documents=many)
    retriever: Any = SimpleNamespace(corpus=found)
    documents: Any = SimpleNamespace(exists=away)
    await Forgetting(answerer, records, retriever, documents).look()
    for _ in range(500):  # time for calls that nobody waits for any more
        await asyncio.sleep(0)
    assert 0 < len(asked) < 20
