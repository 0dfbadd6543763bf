"""From what people said of answers to rows that are fine-tuned on: through a running orchestrator, and the command."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from mesh.discovery import MeshAddresses, publish
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from tests.orchestrator.conftest import Client, client, mesh, settings
from tests.orchestrator.fakes import FakeMesh
from training import cli
from training.finetuning.feedback import Rated, lessons
from training.finetuning.finetune import finetune
from training.finetuning.settings import finetune_settings

__all__ = ["client", "mesh", "settings"]

QUESTION = "Which leader swore fealty to King Charles III?"
SAID = "Rollo swore fealty to King Charles III [1]."
BETTER = "Rollo did, in 911 [1]; write to rollo@normans.example.org."


@pytest.fixture(autouse=True)
def found(mesh: FakeMesh, client: Client, tmp_path: Path) -> None:
    """Commands find the services in the data folder."""
    mesh.generator.script = [SAID]
    publish(MeshAddresses(os.getpid(), "", {"orchestrator": client.target, "ingest": mesh.target}), tmp_path)


async def rated(client: Client, question: str = QUESTION, conversation: str = "", **said: Any) -> pb.AnswerResponse:
    """An answer that is rated good and may be trained on, unless it is said otherwise."""
    answer = await client.answer(question, conversation=conversation)
    feedback = pb.Feedback(**({"rating": pb.RATING_GOOD, "training_consent": True} | said))
    await client.stub.RateAnswer(pb.RateAnswerRequest(name=f"answers/{answer.answer_id}", feedback=feedback))
    return answer


async def export(data: Path) -> Result:
    """`murphey train feedback`, in a thread beside the services of this loop."""
    root = typer.Typer()
    root.callback()(lambda: None)
    cli.register(root)
    arguments = ["train", "feedback", "--out", str(data / "rows"), "--data", str(data)]
    return await asyncio.to_thread(CliRunner().invoke, root, arguments)


def rows(data: Path, kind: str) -> list[Any]:
    return [json.loads(line) for line in (data / "rows" / f"{kind}.jsonl").read_text().splitlines()]


async def test_only_what_was_agreed_to_leaves_redacted(mesh: FakeMesh, client: Client, tmp_path: Path) -> None:
    await rated(client, "What are tides caused by?", training_consent=False)
    await rated(client, better_answer=BETTER, rating=pb.RATING_BAD)
    done = await export(tmp_path)
    assert done.exit_code == 0, done.output
    assert "2 answers are rated, 1 may be trained on, 0 of them cannot be" in done.stderr
    (chat,), (preference,) = rows(tmp_path, "chats"), rows(tmp_path, "preferences")
    said = [part.text for message in mesh.generator.requests[-1].prompt.chat.messages for part in message.parts]
    assert [each["content"] for each in preference["prompt"]] == said, "the prompt that the model had"
    better = BETTER.replace("rollo@normans.example.org", "email@example.com")
    assert chat["messages"] == [*preference["prompt"], {"role": "assistant", "content": better}]
    assert [preference[key][0]["content"] for key in ("chosen", "rejected")] == [better, SAID]
    assert "exists already" in str((await export(tmp_path)).exception)


async def test_turns_that_nobody_agreed_to_stay_in_the_mesh(client: Client, tmp_path: Path) -> None:
    kept, private = [
        (await client.stub.CreateConversation(pb.CreateConversationRequest())).conversation.name for _ in range(2)
    ]
    for conversation, first in ((kept, True), (private, False)):
        await rated(client, conversation=conversation, training_consent=first)
        await rated(client, f"{QUESTION} Really?", conversation=conversation)
    done = await export(tmp_path)
    assert "4 answers are rated, 3 may be trained on, 1 of them cannot be" in done.stderr
    chats = [chat["messages"] for chat in rows(tmp_path, "chats")]
    assert [len([each for each in chat if each["role"] == "user"]) for chat in chats] == [1, 2]
    assert chats[1][-4]["content"] == QUESTION
    assert rows(tmp_path, "preferences") == []


async def test_an_answer_whose_sources_changed_is_left_out(mesh: FakeMesh, client: Client, tmp_path: Path) -> None:
    await rated(client)
    mesh.ingest.texts = {name: ("v2", text) for name, (_, text) in mesh.ingest.texts.items()}
    told = str((await export(tmp_path)).exception)
    assert "nothing to train on: 1 answers are rated, 1 may be trained on, 1 of them cannot be" in told
    assert not (tmp_path / "rows").exists()


def test_answers_to_one_prompt_are_compared() -> None:
    prompt, other = ({"role": "user", "content": "Who?"},), ({"role": "user", "content": "When?"},)
    said = lessons([
        Rated(prompt, "Ada.", True, ""), Rated(prompt, "Nobody.", False, ""), Rated(prompt, "Ada.", True, ""),
        Rated(prompt, "Ben.", False, "Ada [1]."), Rated(prompt, "Ada [1].", False, ""), Rated(other, "Never.", False, ""),
    ])  # fmt: skip
    assert [chat["messages"][-1]["content"] for chat in said.chats] == ["Ada [1].", "Ada."]
    pairs = [(pair["chosen"][0]["content"], pair["rejected"][0]["content"]) for pair in said.preferences]
    assert pairs == [("Ada [1].", "Nobody."), ("Ada [1].", "Ben.")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
async def test_the_rows_are_fine_tuned_on(client: Client, trained: Path, shards: Path, tmp_path: Path) -> None:
    await rated(client, rating=pb.RATING_BAD, better_answer=BETTER)
    await export(tmp_path)
    for method, kind in (("sft", "chats"), ("dpo", "preferences")):
        made = finetune_settings(
            model=str(trained), tokenizer=shards / "tokenizer", data=[tmp_path / "rows" / f"{kind}.jsonl"], method=method,
            steps=1, batch_rows=1, micro_batch=1, max_tokens=4096, device="cpu",
        )  # fmt: skip
        assert finetune(made, tmp_path / method).rows == 1
