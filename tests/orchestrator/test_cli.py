"""`murphey ask` against a running orchestrator."""

import asyncio
import json

import pytest
import typer
from typer.testing import CliRunner, Result

from mesh.errors import Unavailable
from orchestrator import cli
from tests.orchestrator.conftest import NORMANS, Client
from tests.orchestrator.fakes import FakeMesh

QUESTION = "Which leader swore fealty to King Charles III?"


async def ask(*arguments: str) -> Result:
    """`murphey ask`."""
    return await murphey("ask", *arguments)


async def murphey(*arguments: str) -> Result:
    """Runs a command in a thread, beside the services of this loop."""
    root = typer.Typer()
    root.callback()(lambda: None)
    cli.register(root)
    return await asyncio.to_thread(CliRunner().invoke, root, list(arguments))


async def test_the_answer_streams_and_its_citations_follow(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.script = ["Rollo swore fealty ", "to King Charles III [1]."]
    done = await ask(QUESTION, "--target", client.target)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Rollo swore fealty to King Charles III [1].\n")
    assert "normans.txt, page 2, characters 102-161" in done.stdout
    assert "“Their leader Rollo swore fealty to King Charles III in 911.”" in done.stdout
    assert "models/fake@1" in done.stderr


async def test_json_has_stable_keys(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.script = ["Rollo swore fealty to King Charles III [1]."]
    done = await ask(QUESTION, "--target", client.target, "--json", "--limit", "2", "--temperature", "0")
    value = json.loads(done.stdout)
    assert value["answer"] == mesh.generator.script[0]
    assert value["outcome"] == "answered"
    (citation,) = value["citations"]
    assert set(citation) >= {"marker", "document", "page", "start", "end", "quote", "attributed"}
    assert citation["document"] == "normans.txt"
    assert NORMANS[citation["start"] : citation["end"]] == citation["quote"]
    assert set(value["usage"]) == {"prompt_tokens", "cached_tokens", "completion_tokens"}
    assert set(value["versions"]) == {"index", "prompt", "model"}
    assert value["groundedness"] == 1
    assert value["sentences"] == [{"start": 0, "end": len(value["answer"]), "score": 1.0, "supported": True}]
    assert value["withheld_sentences"] == 0
    assert mesh.retriever.searches[0].limit == 2
    assert mesh.generator.requests[0].sampling.HasField("temperature")


async def test_strict_leaves_out_and_says_so(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.script = ["Bananas grow in Iceland. ", "Rollo swore fealty to King Charles III."]
    done = await ask(QUESTION, "--target", client.target, "--strict")
    assert done.stdout.startswith("Rollo swore fealty to King Charles III.\n")
    assert "1 of the model's sentences left out" in done.stderr
    everything = await ask(QUESTION, "--target", client.target, "--no-strict")
    assert everything.stdout.startswith("".join(mesh.generator.script))


async def test_a_declined_question_is_no_failure(mesh: FakeMesh, client: Client) -> None:
    done = await ask("Which chess opening did Fischer play?", "--target", client.target, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["outcome"] == "declined"
    assert json.loads(done.stdout)["citations"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("  ",), "empty"),
        ((QUESTION, "--limit", "-1"), "passage_limit is -1"),
        ((QUESTION, "--temperature", "nan"), "temperature is nan"),
        ((QUESTION, "--collection", "nowhere"), "collections/nowhere"),
        ((QUESTION, "--model", "gpt"), "models/gpt"),
        ((QUESTION, "--conversation", "none"), "conversations/none"),
    ],
)
async def test_errors_are_one_clear_line(client: Client, arguments: tuple[str, ...], words: str) -> None:
    done = await ask(*arguments, "--target", client.target)
    assert done.exit_code == 1
    assert words in done.stderr
    assert done.stdout == ""


async def test_an_answer_that_breaks_off_fails(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.script = ["Rollo "]
    mesh.generator.failure_after = Unavailable("The engine died and restarts.")
    done = await ask(QUESTION, "--target", client.target)
    assert done.exit_code == 1
    assert "engine died" in done.stderr
