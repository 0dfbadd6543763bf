"""Exports: every form is the same model, the generator finds it by name, and nothing that is registered changes."""

import json
from pathlib import Path
from typing import Any

import pytest

from mesh import weights
from mesh.errors import AlreadyExists, Corrupt, FailedPrecondition, InvalidInput, NotFound
from tests.training.tiny import make_tokenizer
from training.exporting import registry
from training.exporting.huggingface import find_source, write_huggingface
from training.exporting.model_card import model_card
from training.exporting.openvino import BITS
from training.exporting.registry import Registered, export

PROMPT = "Ada sees a red boat. Ben"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def registered(shards: Path, trained: Path, models: Path) -> Registered:
    """In all forms."""
    facts: dict[str, Any] = {"licence": "CC0-1.0", "data": {"documents": 400}, "metrics": {"eval_loss": 1.25}}
    return export(trained, shards / "tokenizer", "tiny-chat", models, BITS, "float32", facts)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["huggingface", "openvino-int8", "openvino-int4"])
def test_every_form_goes_on_as_the_model_that_was_trained(trained: Path, registered: Registered, form: str) -> None:
    from transformers import AutoTokenizer, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(registered.folder / form)
    ids = tokenizer(PROMPT, add_special_tokens=False, return_tensors="pt")["input_ids"]

    def greedy(folder: Path) -> list[int]:
        model: Any = LlamaForCausalLM.from_pretrained(folder)
        return model.generate(ids, max_new_tokens=12, min_new_tokens=12, do_sample=False)[0, ids.shape[1] :].tolist()

    expected = greedy(trained)
    if form == "huggingface":
        found = greedy(registered.folder / form)
    else:
        import numpy as np
        import openvino as ov
        import openvino_genai as ov_genai

        pipeline = ov_genai.LLMPipeline(registered.folder / form, "CPU")
        config = ov_genai.GenerationConfig(max_new_tokens=12, min_new_tokens=12)
        found = list(pipeline.generate(ov.Tensor(np.asarray(ids)), config).tokens[0])  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue, reportArgumentType]
    same = 12 if form == "huggingface" else 6
    assert found[:same] == expected[:same]


@pytest.mark.slow
def test_the_folder_tells_what_the_model_is(registered: Registered) -> None:
    folder = registered.folder / "huggingface"
    ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    assert ends == [256, 258]
    card = (folder / "README.md").read_text()
    assert "license: CC0-1.0" in card
    assert "| eval_loss | 1.25 |" in card
    assert (folder / "chat_template.jinja").is_file()
    assert {path.name for path in (registered.folder / "openvino-int8").iterdir()} >= {
        "openvino_model.xml", "openvino_model.bin", "openvino_tokenizer.xml", "openvino_detokenizer.xml", "tokenizer.json",
        "config.json", "generation_config.json", "README.md",
    }  # fmt: skip


@pytest.mark.slow
def test_the_newest_version_is_found_by_name_and_any_by_its_number(
    shards: Path, trained: Path, registered: Registered, models: Path
) -> None:
    second = export(trained, shards / "tokenizer", "tiny-chat", models, (), "float32", {}, triton=True)
    served = (second.folder / "triton" / "tensorrt_llm" / "1" / "model.yaml").read_text()
    assert str(second.folder.resolve() / "huggingface") in served
    assert (registered.version, second.version) == ("v1", "v2")
    assert weights.resolve("tiny-chat", models) == second.folder / "huggingface"
    assert weights.resolve("tiny-chat@v1", models) == registered.folder / "openvino-int8"
    assert weights.resolve("another", models) == "another"
    with pytest.raises(NotFound, match="The model tiny-chat has no version v9; there are v1, v2"):
        weights.resolve("tiny-chat@v9", models)


@pytest.mark.slow
def test_a_form_that_cannot_be_made_leaves_no_version(
    shards: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise FailedPrecondition("The disk is full.")

    monkeypatch.setattr(registry, "render", full)
    with pytest.raises(FailedPrecondition, match="disk is full"):
        export(trained, shards / "tokenizer", "tiny-chat", tmp_path, (), "float32", {}, triton=True)
    assert list((tmp_path / weights.TRAINED / "tiny-chat").iterdir()) == []


@pytest.mark.parametrize("name", ["../up", "Name", "", "smollm2-135m-instruct"])
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be the name of a trained model"):
        export(tmp_path, None, name, tmp_path, (), "float32", {})


def test_what_is_no_whole_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"holds no config\.json"):
        find_source(tmp_path, None)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(Corrupt, match="holds no safetensors"):
        find_source(tmp_path, None)
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(InvalidInput, match=r"holds no tokenizer\.json; name the tokenizer's folder"):
        find_source(tmp_path, None)


@pytest.mark.slow
def test_a_tokenizer_of_another_model_and_a_folder_that_exists_are_refused(trained: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    larger = AutoTokenizer.from_pretrained(make_tokenizer(tmp_path / "tokenizer"))
    larger.add_tokens([f"<word-{number}>" for number in range(200)])
    larger.save_pretrained(tmp_path / "larger")
    with pytest.raises(InvalidInput, match=r"has 459 tokens, and the model in .* only 320"):
        write_huggingface(find_source(trained, tmp_path / "larger"), tmp_path / "out", "float32", "x", {})
    with pytest.raises(AlreadyExists):
        write_huggingface(find_source(trained, tmp_path / "tokenizer"), tmp_path / "larger", "float32", "x", {})


def test_a_card_leaves_out_what_is_not_known() -> None:
    config = {"num_hidden_layers": 2, "hidden_size": 64, "max_position_embeddings": 64}
    card = model_card("m", 1234, config, {"data": {"sources": ["a", "b|c"], "tokens": {"train": 5}}})
    assert "1,234 parameters" in card
    assert "| sources | a, b\\|c |" in card
    assert "| tokens.train | 5 |" in card
    assert "## Measured" not in card
