"""Settings of the `triton` engine, the text that its servers are given, and the model repository that is written for them."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from generator.engines.triton.contracts import Kind, ModelFacts, contract_of
from generator.engines.triton.repository import Layout, files_of, render, start_command
from generator.requests import ChatMessage, Prompt, Role
from generator.settings import GeneratorSettings
from generator.tokens import PromptTokenizer
from mesh.cli import build
from mesh.errors import AlreadyExists, FailedPrecondition, InvalidInput, MurpheyError, NotFound
from tests.generator.fakes import END_OF_TURN, prepared_model

ROOT = Path(__file__).parents[2]
THERE: dict[str, Any] = {"engine": "triton", "model": "smol", "urls": ["grpc://a"], "tokenizer": "x"}
BAD_SETTINGS: list[dict[str, Any]] = [
    {"tokenizer": ""},
    {"urls": []},
    {"dialect": "vllm"},
    {"device": "cuda"},
    *({"urls": [url]} for url in ("http://a", "a:8001", "grpc://", "grpc://u:p@a", "grpc://a/v1", "grpc://a:x")),
]


@pytest.mark.parametrize("changed", BAD_SETTINGS, ids=str)
def test_settings_that_contradict_each_other_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        GeneratorSettings(**(THERE | changed))
    assert "u:p" not in " ".join(error["msg"] for error in caught.value.errors())


def test_an_address_has_tritons_port_where_it_names_none() -> None:
    changed: dict[str, Any] = {"urls": ["grpc://a", "grpcs://b:9", "grpc://a:8001/"]}
    settings = GeneratorSettings(**(THERE | changed))
    assert settings.urls == ("grpc://a:8001", "grpcs://b:9")


async def test_a_chat_becomes_text_in_which_documents_quote_no_control_tokens(tmp_path: Path) -> None:
    with closing(PromptTokenizer(prepared_model(tmp_path))) as tokenizer:
        plain = Prompt(chat=(ChatMessage(Role.USER, "four"),))
        text, tokens = await tokenizer.as_text(plain)
        assert (text, tokens) == ("<|user|>four<|end|><|assistant|>", 7)
        for length in (1, 3000):  # on the loop and on the thread
            quoting = Prompt(chat=(ChatMessage(Role.USER, "a" * length + END_OF_TURN),))
            text, _ = await tokenizer.as_text(quoting)
            assert text.count(END_OF_TURN) == 1
            assert (
                text.replace("\N{WORD JOINER}", "") == f"<|user|>{'a' * length}{END_OF_TURN}{END_OF_TURN}<|assistant|>"
            )


CONFIG = {"architectures": ["LlamaForCausalLM"], "num_attention_heads": 32, "num_key_value_heads": 8}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").touch()
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


def test_a_repository_is_whole_and_says_what_was_asked(checkpoint: Path, tmp_path: Path) -> None:
    layout = Layout(tensor_parallel=4, kv_cache_share=0.5, kv_cache_dtype="fp8")
    out = tmp_path / "made" / "repository"
    files = render(checkpoint, "/srv/mödel: 1", layout, out)
    assert sorted(files) == sorted(path for path in out.rglob("*") if path.is_file())
    told = yaml.safe_load((out / "tensorrt_llm/1/model.yaml").read_text())
    assert (told["model"], told["tensor_parallel_size"]) == ("/srv/mödel: 1", 4)
    assert told["kv_cache_config"] == {"free_gpu_memory_fraction": 0.5, "dtype": "fp8", "enable_block_reuse": True}
    assert told["triton_config"] | {"cancellation_check_period_ms": 0} == {
        "max_batch_size": 0, "decoupled": True, "cancellation_check_period_ms": 0,
    }  # fmt: skip
    assert start_command(str(out), layout).startswith("trtllm-llmapi-launch tritonserver")
    assert start_command(str(out), Layout()).startswith("tritonserver")


def test_what_is_written_is_what_the_engine_knows() -> None:
    listed = files_of("/m", Layout())["tensorrt_llm/config.pbtxt"].split("output [")
    names = [[line.split('"')[1] for line in part.splitlines() if "data_type" in line] for part in listed]
    facts = ModelFacts("tensorrt_llm", dict.fromkeys(names[0], "BYTES"), dict.fromkeys(names[1], "BYTES"))
    contract = contract_of(facts, {})
    assert contract.kind is Kind.LLMAPI
    assert {"max_tokens", "temperature", "top_p", "top_k", "seed", "presence_penalty"} <= contract.fields


def test_the_repository_that_is_shown_is_the_one_that_is_written() -> None:
    shown = ROOT / "deploy" / "triton" / "llmapi"
    found = {str(path.relative_to(shown)): path.read_text() for path in shown.rglob("*") if path.is_file()}
    assert found == files_of("/models/checkpoint", Layout())


REFUSED: list[tuple[dict[str, str | None], Layout, type[MurpheyError], str]] = [
    ({"config.json": None}, Layout(), NotFound, "config.json is missing"),
    ({"config.json": "{"}, Layout(), InvalidInput, "cannot be read"),
    ({"config.json": "[]"}, Layout(), InvalidInput, "no JSON object"),
    ({"config.json": "{}"}, Layout(), InvalidInput, "no architecture"),
    ({"model.safetensors": None}, Layout(), NotFound, "no other weights"),
    ({"tokenizer_config.json": None}, Layout(), NotFound, "no tokenizer"),
    ({}, Layout(tensor_parallel=3), InvalidInput, "cut into 1, 2, 4, 8, 16, 32"),
    ({}, Layout(tensor_parallel=0), InvalidInput, "1 or more"),
    ({}, Layout(kv_cache_share=1.5), InvalidInput, "below 1"),
    ({}, Layout(quantization="fp8"), FailedPrecondition, "--quant fp8"),
    (
        {"hf_quant_config.json": '{"quantization": {"quant_algo": "FP8"}}'}, Layout(quantization="none"),
        FailedPrecondition, "is quantized to fp8",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "layout", "kind", "said"), REFUSED, ids=[one[3] for one in REFUSED])
def test_a_checkpoint_that_cannot_be_served_so_is_refused(
    checkpoint: Path, changed: dict[str, str | None], layout: Layout, kind: type[MurpheyError], said: str
) -> None:
    for name, text in changed.items():
        (checkpoint / name).unlink() if text is None else (checkpoint / name).write_text(text)
    out = checkpoint.parent / "out"
    with pytest.raises(kind, match=said):
        render(checkpoint, "/m", layout, out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hf_quant_config.json", '{"quantization": {"quant_algo": "W4A16_AWQ"}}'),
        ("config.json", json.dumps(CONFIG | {"quantization_config": {"quant_method": "awq"}})),
    ],
)
def test_a_quantized_checkpoint_is_known(checkpoint: Path, name: str, text: str) -> None:
    (checkpoint / name).write_text(text)
    assert render(checkpoint, "/m", Layout(quantization="int4_awq"), checkpoint.parent / "out")


def test_nothing_is_overwritten(checkpoint: Path) -> None:
    out = checkpoint.parent / "out"
    out.mkdir()
    assert render(checkpoint, "/m", Layout(), out)
    with pytest.raises(AlreadyExists):
        render(checkpoint, "/m", Layout(), out)


def test_the_command_writes_and_says_how_to_start(checkpoint: Path) -> None:
    out = checkpoint.parent / "out"
    command = ["models", "render-triton", str(checkpoint), "--out", str(out), "--tensor-parallel", "2", "--json"]
    done = CliRunner().invoke(build(), command)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["files"] == [str(out / name) for name in files_of("", Layout())]
    assert str(out) in told["start"]
    assert yaml.safe_load((out / "tensorrt_llm/1/model.yaml").read_text())["model"] == str(checkpoint)
    assert CliRunner().invoke(build(), command).exit_code == 1
