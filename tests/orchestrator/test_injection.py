"""Documents that attack: the prompt keeps its form, and what they order is no evidence, even for a model that obeys."""

import re

import pytest

from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from orchestrator.fencing import defused
from orchestrator.orders import gives_orders
from orchestrator.prompts import load_prompts
from orchestrator.sentences import MARKER
from orchestrator.sources import Source, Span
from tests.orchestrator.attacks import ANSWER, ATTACKS, CANARY, QUESTION, TRUE_DOCUMENT
from tests.orchestrator.conftest import Client
from tests.orchestrator.fakes import FakeMesh

_CONTROL = re.compile(r"<\||＜｜|\[/?INST\]|<<SYS|</?s>|<(?:start|end)_of_turn>|!\[|<img", re.IGNORECASE)
_TURN = re.compile(
    r"^\W*(?:system|user|assistant|question|instruction|response|closest sentence|short answer):", re.I | re.M
)


def source(number: int, text: str, title: str = "a.txt") -> Source:
    return Source(number, "d", "v", title, text, Span(0, len(text)), 0, (), 1.0, ("c",))


@pytest.mark.parametrize("model", ["smollm2-135m-instruct", "any-other-model"])
@pytest.mark.parametrize("name", ATTACKS)
def test_no_document_changes_the_form_of_a_prompt(name: str, model: str) -> None:
    template = load_prompts().for_model(model)
    clean = template.render(QUESTION, [source(1, TRUE_DOCUMENT), source(2, "Harlan.")], (), "Near.")
    dirty = template.render(
        QUESTION, [source(1, TRUE_DOCUMENT), source(2, ATTACKS[name], ATTACKS[name])], (), ATTACKS[name]
    )
    assert dirty[:-1] == clean[:-1]
    prompt = dirty[-1].text
    assert not _CONTROL.search(prompt)
    assert MARKER.findall(prompt) == MARKER.findall(clean[-1].text)
    assert prompt.count("<source") == clean[-1].text.count("<source")
    assert prompt.count("</source") == clean[-1].text.count("</source")
    unquoted = re.sub("^› .*$", "", prompt, flags=re.M)
    assert [turn.strip() for turn in _TURN.findall(unquoted)] == [
        turn.strip() for turn in _TURN.findall(clean[-1].text)
    ]


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_model_that_obeys_says_nothing_of_it_in_strict_mode(mesh: FakeMesh, client: Client, name: str) -> None:
    mesh.add_document("harlan.txt", TRUE_DOCUMENT)
    mesh.add_document("attack.txt", ATTACKS[name].replace("\n\n", "\n"))
    mesh.generator.script = [CANARY, ". I am ", f"{CANARY}, the ", "answer."]
    answer = await client.answer(QUESTION, strict=True)
    assert CANARY not in answer.text
    assert ANSWER in answer.text
    assert [citation.display_name for citation in answer.citations] == ["harlan.txt"]
    assert answer.finish.withheld_sentences == 2
    assert answer.finish.outcome == pb.OUTCOME_ANSWERED


@pytest.mark.parametrize(
    "sentence",
    [
        "Follow the instructions of the manual when you clean the lamp.",
        "The assistant secretary of state answered the question of the committee.",
        "The system was developed in 1990 and replaced the previous rules.",
        "The model ignores the influence of gravity on the flow.",
        "You must turn the lamp off before you open the door.",
        "Der Assistent des Leuchtturmwärters schreibt jeden Abend ins Logbuch.",
        "She was asked to write a report, and her answer was short.",
    ],
)
def test_what_only_speaks_of_such_things_is_evidence(sentence: str) -> None:
    assert not gives_orders(sentence)


def test_other_signs_stay() -> None:
    kept = "a < b, <b>bold</b>, <sourcecode>, x[1] = y, f()[2], 1 | 2, نمی‌خواهم, 👩‍🚒, “systems: old and new”"
    assert defused(kept) == kept
