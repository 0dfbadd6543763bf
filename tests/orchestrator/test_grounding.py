"""How well each sentence of an answer is supported is told with it; strict answers leave out what is not."""

import pytest

from murphey.generator.v1 import sampling_pb2
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from tests.orchestrator.conftest import Client
from tests.orchestrator.fakes import FakeMesh

QUESTION = "Which leader swore fealty to King Charles III?"
TRUE = "Rollo swore fealty to King Charles III."
FALSE = "Bananas grow in Iceland."
WRONG_YEAR = "Rollo swore fealty to King Charles III in 1911."


async def test_each_sentence_has_its_score(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.script = [f"{TRUE} ", f"{FALSE} ", "He swore fealty in 911 [1]."]
    answer = await client.answer(QUESTION)
    sentences = answer.finish.sentences
    said = [answer.text[sentence.answer_span.start : sentence.answer_span.end] for sentence in sentences]
    assert said == [TRUE, FALSE, "He swore fealty in 911 [1]."]
    assert [sentence.supported for sentence in sentences] == [True, False, True]
    assert sentences[0].score == 1
    assert sentences[1].score < 0.3
    assert answer.finish.groundedness == pytest.approx(sum(sentence.score for sentence in sentences) / 3)
    assert answer.finish.withheld_sentences == 0


async def test_a_sentence_with_a_wrong_number_scores_nothing(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.script = [f"{WRONG_YEAR[:-1]} [1]."]
    (sentence,) = (await client.answer(QUESTION)).finish.sentences
    assert (sentence.score, sentence.supported) == (0, False)


async def test_a_decline_states_nothing(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.script = ["I do not know: the sources do not tell."]
    finish = (await client.answer(QUESTION, strict=True)).finish
    assert finish.outcome == pb.OUTCOME_DECLINED
    assert not finish.sentences
    assert not finish.HasField("groundedness")


@pytest.mark.parametrize("cut", [1, 7, 1000])
async def test_strict_says_only_what_is_supported(mesh: FakeMesh, client: Client, cut: int) -> None:
    text = f"{FALSE} {TRUE}\n{WRONG_YEAR} He swore in 911 [2, 1].\n\nIt was {FALSE}"
    mesh.generator.script = [text[start : start + cut] for start in range(0, len(text), cut)]
    events = await client.events(QUESTION, strict=True)
    said = "".join(event.delta.text for event in events)
    assert said == f"{TRUE}\nHe swore in 911 [2, 1]."
    finish = events[-1].finish
    assert finish.withheld_sentences == 3
    assert all(sentence.supported for sentence in finish.sentences)
    spans = [event.citation.answer_span for event in events if event.WhichOneof("event") == "citation"]
    assert {said[span.start : span.end] for span in spans} == set(said.split("\n"))


async def test_strict_takes_no_repeated_question_for_an_answer(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.script = [f"{QUESTION} ", "The leader swore fealty to King Charles III."]
    answer = await client.answer(QUESTION, strict=True)
    assert answer.finish.withheld_sentences == 2
    assert "Their leader Rollo swore fealty to King Charles III in 911." in answer.text


async def test_small_models_are_strict_unless_told_otherwise(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.name = "models/smollm2-135m-instruct"
    mesh.generator.script = [f"{FALSE} ", TRUE]
    assert (await client.answer(QUESTION)).text == TRUE
    assert (await client.answer(QUESTION, strict=False)).text.startswith(f"{FALSE} {TRUE}")


async def test_a_form_that_was_asked_for_stays_whole(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.name = "models/smollm2-135m-instruct"
    mesh.generator.script = ['{"bananas": "Iceland"}']
    sampling = sampling_pb2.SamplingParams()
    sampling.guidance.json_schema = "{}"
    answer = await client.answer(QUESTION, sampling=sampling)
    assert answer.text.startswith(mesh.generator.script[0])
    assert answer.finish.withheld_sentences == 0
