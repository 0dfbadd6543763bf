"""Rows to fine-tune on: what is read, what is refused, what is made of labelled sets and conversations."""

import json
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import InvalidInput, NotFound
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from orchestrator.evaluation.reading import read_set
from orchestrator.evaluation.sets import Part
from orchestrator.prompts import load_prompts
from training.finetuning.cited_rows import DECLINE, Mixture, cited_chats
from training.finetuning.conversations import _messages, read_consent
from training.finetuning.redaction import redacted
from training.finetuning.rows import fitting, parted, read_examples, read_preferences
from training.finetuning.settings import finetune_settings


def write_lines(file: Path, *rows: Any) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_each_answer_of_a_chat_is_learned_from_what_stands_before_it(tmp_path: Path) -> None:
    chat = [user("one"), assistant("1"), user("two"), assistant("2")]
    examples = read_examples([write_lines(tmp_path / "a.jsonl", {"messages": chat})])
    assert [list(each.prompt) for each in examples] == [chat[:1], chat[:3]]
    assert [list(each.completion) for each in examples] == [[assistant("1")], [assistant("2")]]


def test_instructions_are_chats_of_one_turn(tmp_path: Path) -> None:
    row = {"instruction": "Add.", "input": "1 and 2", "output": "3"}
    (example,) = read_examples([write_lines(tmp_path / "a.jsonl", row)])
    assert (list(example.prompt), list(example.completion)) == ([user("Add.\n\n1 and 2")], [assistant("3")])


@pytest.mark.parametrize(
    "row", [{"text": "no"}, {"messages": []}, {"messages": [{"role": "robot", "content": "x"}]}, ["list"]]
)
def test_a_row_of_another_form_is_named(tmp_path: Path, row: Any) -> None:
    file = write_lines(tmp_path / "a.jsonl", {"messages": [user("q"), assistant("a")]}, row)
    with pytest.raises(InvalidInput, match=r"a\.jsonl, line 2"):
        read_examples([file])
    with pytest.raises(InvalidInput, match=r"a\.jsonl, line 1: `prompt`, `chosen` and `rejected`"):
        read_preferences([file])
    with pytest.raises(NotFound):
        read_examples([tmp_path / "none.jsonl"])


def test_validation_rows_are_apart_and_long_rows_left_out(tmp_path: Path) -> None:
    rows = [{"instruction": str(number), "output": "x" * number} for number in range(1, 21)]
    examples = read_examples([write_lines(tmp_path / "a.jsonl", *rows)])
    train, validation = parted(examples, 0.1)
    assert (len(train), len(validation)) == (18, 2)
    assert not set(map(id, train)) & set(map(id, validation))
    assert len(fitting(examples, lambda row: len(row.completion[0]["content"]), 5)) == 5
    with pytest.raises(InvalidInput, match="all 20 rows have more than max_tokens, 0"):
        fitting(examples, lambda row: 1, 0)


def labelled_set(folder: Path) -> Path:
    folder.mkdir()
    texts = {f"d{number}": f"Ada was born in {1800 + number}. She painted mills." for number in range(8)}
    write_lines(folder / "corpus.jsonl", *({"_id": id_, "title": "", "text": text} for id_, text in texts.items()))
    write_lines(folder / "queries.jsonl", *({"_id": f"q{n}", "text": f"When was Ada {n} born?"} for n in range(40)))
    (folder / "qrels.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\td{n % 8}\t1\n" for n in range(40))
    )
    answers = ({"_id": f"q{n}", "answers": [str(1800 + n)] if n < 8 else []} for n in range(40))
    write_lines(folder / "answers.jsonl", *answers)
    return folder


def test_cited_rows_cite_the_passage_that_holds_the_answer_or_decline(tmp_path: Path) -> None:
    data, template = read_set(labelled_set(tmp_path / "set")), load_prompts().for_model("any")
    chats = list(cited_chats(data, Part.ALL, template, Mixture(sources=3, without_share=0.3, seed=4)))
    assert len(chats) == 40
    cited = 0
    for chat in chats:
        prompt, answer = chat[-2]["content"], chat[-1]["content"]
        assert prompt.count("<source number=") == 3
        if answer != DECLINE:
            year, marker = answer.split(" ")
            assert year.rstrip(".") in prompt.split("<source number=")[int(marker.strip("[]"))]
            cited += 1
    assert 0 < cited < 8, "some of the eight that can be answered lost their passage, not all"


def test_only_one_half_of_a_set_is_used(tmp_path: Path) -> None:
    data, template = read_set(labelled_set(tmp_path / "set")), load_prompts().for_model("any")
    halves = [list(cited_chats(data, part, template, Mixture())) for part in (Part.CALIBRATION, Part.HELD_OUT)]
    questions = [{chat[-2]["content"].rsplit("Question: ", 1)[1] for chat in half} for half in halves]
    assert not questions[0] & questions[1]
    assert len(questions[0] | questions[1]) == 40


def test_consent_names_conversations_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "agreed.txt"
    file.write_text("# by form of 3 May\nconversations/a1\n\nconversations/b2  # both\nconversations/a1\n")
    assert read_consent(file) == ["conversations/a1", "conversations/b2"]
    file.write_text("everyone\n")
    with pytest.raises(InvalidInput, match="line 1: not the name of a conversation"):
        read_consent(file)
    file.write_text("# nobody\n")
    with pytest.raises(InvalidInput, match="nobody agreed"):
        read_consent(file)


def test_of_a_conversation_grounded_turns_are_taken_redacted() -> None:
    cited = pb.Turn(question="Mail ada@example.org?", answer="Call +49 30 1234567.", citations=[pb.Citation(marker=1)])
    found = list(_messages(pb.Conversation(turns=[cited, pb.Turn(question="And?", answer="I think so.")])))
    assert found == [user("Mail email@example.com?"), assistant("Call +1 555 0100.")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from 192.168.0.17 by bo.b+x@mail.example.co.uk", "from 192.0.2.1 by email@example.com"),
        ("DE89 3704 0044 0532 0130 00 is hers", "XX00 0000 0000 0000 is hers"),
        ("card 4111 1111 1111 1111", "card 4000 0000 0000 0002"),
        ("key sk-abcdefghijklmnop1234", "key sk-example"),
        ("2001:db8:0:0:1:0:0:1, call 030 1234567", "192.0.2.1, call +1 555 0100"),
        ("In 1848, 12,345 people; section 3.1.4 of 2024-05-06", "In 1848, 12,345 people; section 3.1.4 of 2024-05-06"),
    ],
)
def test_what_tells_of_a_person_is_taken_out(text: str, expected: str) -> None:
    assert redacted(text) == expected


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"batch_rows": 6}, "batch_rows, 6, is no multiple of micro_batch, 4"),
        ({"steps": 3, "epochs": 2}, "steps and epochs are both set"),
        ({"lora_alpha": 8}, "lora_alpha is set, and lora_rank is 0"),
        ({"quantize": "nf4"}, "quantize is set, and lora_rank is 0"),
        ({"dpo_beta": 0.2}, "dpo_beta is set, which the method sft does not have"),
        ({"metod": "sft"}, "metod: Extra inputs are not permitted"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        finetune_settings(**({"model": "m", "data": ["d"]} | values))
