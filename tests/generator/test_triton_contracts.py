"""Which contract a model speaks, and what a request becomes in it, without any server."""

import json
import struct
from dataclasses import replace
from typing import Any

import pytest

from generator.engines.base import RemoteRequest
from generator.engines.triton.asking import request_of, stop_of
from generator.engines.triton.contracts import Contract, Kind, ModelFacts, contract_of, disorders, parts_of
from generator.requests import Guidance, Prompt, Sampling
from mesh.errors import FailedPrecondition, InvalidInput
from murphey.triton import inference_pb2 as pb

TEXT = {"text_output": "BYTES"}
LLMAPI_IN = {
    "text_input": "BYTES", "streaming": "BOOL", "stop": "BOOL", "return_finish_reason": "BOOL",
    "sampling_param_stop": "BYTES",
    "sampling_param_exclude_input_from_output": "BOOL", "sampling_param_seed": "UINT64",
    **{f"sampling_param_{name}": "INT32" for name in ("max_tokens", "top_k", "best_of")},
    **{f"sampling_param_{name}": "FP32" for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty")},
}  # fmt: skip
ENGINE_IN = {
    "text_input": "BYTES", "stream": "BOOL", "stop_words": "BYTES", "bad_words": "BYTES", "seed": "UINT64",
    "exclude_input_in_output": "BOOL", "guided_decoding_guide": "BYTES", "guided_decoding_guide_type": "BYTES",
    **dict.fromkeys(("max_tokens", "min_tokens", "top_k", "end_id"), "INT32"),
    **dict.fromkeys(
        ("temperature", "top_p", "repetition_penalty", "presence_penalty", "frequency_penalty"), "FP32"
    ),
}  # fmt: skip
VLLM_IN = {
    "text_input": "BYTES", "stream": "BOOL", "sampling_parameters": "BYTES", "exclude_input_in_output": "BOOL",
    "return_finish_reason": "BOOL", "return_num_input_tokens": "BOOL", "return_num_output_tokens": "BOOL",
}  # fmt: skip
VLLM_OUT = TEXT | {"finish_reason": "BYTES", "num_input_tokens": "UINT32", "num_output_tokens": "UINT32"}
CORE = ModelFacts(
    "tensorrt_llm",
    {"input_ids": "INT32", "input_lengths": "INT32", "request_output_len": "INT32", "stop": "BOOL"},
    {"output_ids": "INT32"}, batched=True, parameters={"guided_decoding_backend": "xgrammar"},
)  # fmt: skip
STEPS = {"preprocessing": ModelFacts("preprocessing", {}, {}), "tensorrt_llm": CORE}
LLMAPI = ModelFacts("tensorrt_llm", LLMAPI_IN, TEXT | {"finish_reason": "BYTES"}, frozenset({"text_input"}))
ENSEMBLE = ModelFacts(
    "ensemble", ENGINE_IN, TEXT, frozenset({"text_input", "max_tokens"}), batched=True, steps=tuple(STEPS)
)
BLS = replace(ENSEMBLE, model="tensorrt_llm_bls", steps=())
VLLM = ModelFacts("vllm", VLLM_IN, VLLM_OUT, frozenset({"text_input"}))
CONTRACTS = {
    Kind.LLMAPI: contract_of(LLMAPI, {}),
    Kind.ENSEMBLE: contract_of(ENSEMBLE, STEPS),
    Kind.BLS: contract_of(BLS, {"tensorrt_llm": CORE}),
    Kind.VLLM: contract_of(VLLM, {}),
}


def sent(contract: Contract, max_tokens: int = 16, **sampling: Any) -> dict[str, list[Any]]:
    """The inputs of a request, as a server reads them."""
    message = request_of(RemoteRequest(Prompt(text="größe"), max_tokens, Sampling(**sampling)), contract, "id-1")
    assert (message.id, message.model_name) == ("id-1", contract.facts.model)
    assert message.parameters["triton_enable_empty_final_response"].bool_param
    return {one.name: _values(one, raw) for one, raw in zip(message.inputs, message.raw_input_contents, strict=True)}


def _values(tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes) -> list[Any]:
    count = 1
    for size in tensor.shape:
        count *= size
    if tensor.datatype != "BYTES":
        code = {"BOOL": "?", "INT32": "i", "UINT32": "I", "UINT64": "Q", "FP32": "f"}[tensor.datatype]
        return list(struct.unpack(f"<{count}{code}", raw))
    values: list[str] = []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        values.append(raw[4 : 4 + length].decode())
        raw = raw[4 + length :]
    assert len(values) == count
    return values


@pytest.mark.parametrize("kind", Kind)
def test_each_contract_is_known_for_what_it_is(kind: Kind) -> None:
    contract = CONTRACTS[kind]
    assert contract.kind is kind
    assert contract.cumulative is (kind is Kind.LLMAPI)
    assert (contract.core is CORE) is (kind is Kind.ENSEMBLE)
    assert {"max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "time_limit"} <= contract.fields


def test_a_bls_that_accumulates_sends_all_text_each_time() -> None:
    for value, whole in (
        ("true", True),
        ("True", True),
        ("false", False),
        ("", False),
        ("${accumulate_tokens}", False),
    ):
        assert contract_of(replace(BLS, parameters={"accumulate_tokens": value}), {}).cumulative is whole


def test_what_a_contract_lacks_is_no_field_of_it() -> None:
    lacking = {kind: {"stop_token_ids", "min_p", "min_tokens", "bad_words"} - CONTRACTS[kind].fields for kind in Kind}
    assert lacking == {
        Kind.LLMAPI: {"stop_token_ids", "min_p", "min_tokens", "bad_words"},
        Kind.ENSEMBLE: {"stop_token_ids", "min_p"},
        Kind.BLS: {"stop_token_ids", "min_p"},
        Kind.VLLM: set(),
    }
    assert "repetition_penalty" not in CONTRACTS[Kind.LLMAPI].fields
    unguided = contract_of(ENSEMBLE, {"tensorrt_llm": replace(CORE, parameters={"guided_decoding_backend": "${x}"})})
    assert not {"guidance", "bad_words"} & unguided.fields  # the inputs are there, but nobody reads them


def test_names_and_types_of_older_releases_are_taken_as_they_are() -> None:
    older = {"min_tokens": "min_length", "seed": "random_seed"}
    inputs = {older.get(name, name): "UINT32" if kind == "INT32" else kind for name, kind in ENGINE_IN.items()}
    required = frozenset({"text_input", "max_tokens", "bad_words", "stop_words"})
    contract = contract_of(replace(ENSEMBLE, inputs=inputs, required=required), STEPS)
    values = sent(contract, temperature=0.5, min_tokens=2, seed=7)
    assert (values["min_length"], values["random_seed"], values["max_tokens"]) == ([2], [7], [16])
    assert (values["bad_words"], values["stop_words"]) == ([""], [""])


STRANGERS = [
    replace(LLMAPI, inputs={"INPUT0": "FP32"}, outputs={"OUTPUT0": "FP32"}),
    replace(LLMAPI, inputs={"text_input": "BYTES", "stream": "BOOL"}),
    replace(LLMAPI, outputs={"text_output": "FP32"}),
    replace(ENSEMBLE, required=ENSEMBLE.required | {"picture"}),
    replace(VLLM, required=frozenset({"text_input", "image"})),
    CORE,
]


@pytest.mark.parametrize("facts", STRANGERS, ids=lambda facts: facts.model)
def test_a_stranger_is_refused_by_what_was_seen_and_what_is_known(facts: ModelFacts) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        contract_of(facts, {})
    message = caught.value.message
    assert f"The model {facts.model} speaks no contract that is known" in message
    assert all(f"{name} {facts.inputs[name]}" in message for name in facts.inputs)
    assert all(name in message for name in ("llmapi", "ensemble", "BLS", "vLLM", *facts.required))
    assert ("name that one" in message) is (facts is CORE)


def test_shapes_have_a_batch_dimension_where_the_model_has() -> None:
    request = RemoteRequest(Prompt(text="a"), 4, Sampling(stop=("x", "y", "z")))
    for kind, shape in ((Kind.ENSEMBLE, [1, 3]), (Kind.LLMAPI, [1])):
        message = request_of(request, CONTRACTS[kind], "1")
        shapes = {one.name: list(one.shape) for one in message.inputs}
        assert shapes["text_input"] == ([1, 1] if kind is Kind.ENSEMBLE else [1])
        assert shapes.get("stop_words", [1]) == shape


def test_greedy_is_said_so_that_every_release_understands_it() -> None:
    assert sent(CONTRACTS[Kind.ENSEMBLE]) == {
        "text_input": ["größe"], "max_tokens": [16], "top_k": [1], "stream": [True],
        "exclude_input_in_output": [True],
    }  # fmt: skip
    assert sent(CONTRACTS[Kind.LLMAPI], temperature=0.0, top_p=0.5) == {
        "text_input": ["größe"], "sampling_param_max_tokens": [16], "sampling_param_top_k": [1], "streaming": [True],
        "sampling_param_exclude_input_from_output": [True], "return_finish_reason": [True],
    }  # fmt: skip


def test_every_field_goes_into_its_input() -> None:
    fields: dict[str, Any] = {
        "temperature": 0.5, "top_p": 0.25, "top_k": 5, "presence_penalty": 0.5, "frequency_penalty": -0.5, "seed": 9,
    }  # fmt: skip
    values = sent(CONTRACTS[Kind.LLMAPI], **fields)
    assert {name: values[f"sampling_param_{name}"] for name in fields} == {name: [fields[name]] for name in fields}
    fields |= {"min_tokens": 3, "repetition_penalty": 1.5}
    values = sent(CONTRACTS[Kind.BLS], **fields, stop=("x", "yy"))
    assert {name: values[name] for name in fields} == {name: [fields[name]] for name in fields}
    assert values["stop_words"] == ["x", "yy"]
    fields |= {"min_p": 0.125, "stop_token_ids": (5, 6), "stop": ("x",)}
    values = sent(CONTRACTS[Kind.VLLM], **fields)
    told = json.loads(values["sampling_parameters"][0])
    assert told == {"max_tokens": 16} | fields | {"stop_token_ids": [5, 6], "stop": ["x"]}
    assert [values[name] for name in ("stream", "exclude_input_in_output", "return_num_output_tokens")] == [[True]] * 3


def test_sampling_without_a_seed_is_not_the_same_each_time() -> None:
    seeds = {sent(CONTRACTS[Kind.ENSEMBLE], temperature=1.0)["seed"][0] for _ in range(4)}
    assert len(seeds) == 4
    values = sent(CONTRACTS[Kind.ENSEMBLE], temperature=1.0)
    assert values["top_p"] == [1.0]  # or TensorRT-LLM would be greedy
    assert "top_k" not in values
    assert "seed" not in json.loads(sent(CONTRACTS[Kind.VLLM], temperature=1.0)["sampling_parameters"][0])


FORMS = [
    (Guidance("json_schema", '{"type": "object"}'), "json_schema", {"json": {"type": "object"}}),
    (Guidance("regex", "[0-9]+"), "regex", {"regex": "[0-9]+"}),
    (Guidance("grammar", 'root ::= "a"'), "ebnf_grammar", {"grammar": 'root ::= "a"'}),
]


@pytest.mark.parametrize(("form", "guide", "structured"), FORMS, ids=lambda one: getattr(one, "kind", ""))
def test_forms(form: Guidance, guide: str, structured: dict[str, Any]) -> None:
    values = sent(CONTRACTS[Kind.ENSEMBLE], guidance=form)
    assert (values["guided_decoding_guide_type"], values["guided_decoding_guide"]) == ([guide], [form.source])
    told = json.loads(sent(CONTRACTS[Kind.VLLM], guidance=form)["sampling_parameters"][0])
    assert json.loads(told["structured_outputs"]) == structured


def test_bad_words_are_a_form() -> None:
    values = sent(CONTRACTS[Kind.ENSEMBLE], bad_words=("foo",))
    assert values["guided_decoding_guide_type"] == ["ebnf_grammar"]
    assert "bad_words" not in values
    for kind in (Kind.ENSEMBLE, Kind.VLLM):
        with pytest.raises(InvalidInput) as caught:
            sent(CONTRACTS[kind], bad_words=("foo",), guidance=Guidance("regex", "a"))
        assert caught.value.field == "sampling.bad_words"
        with pytest.raises(InvalidInput) as caught:
            sent(CONTRACTS[kind], guidance=Guidance("json_schema", "[1"))
        assert caught.value.field == "sampling.guidance.json_schema"


def test_a_request_is_stopped_in_the_engine_by_its_id() -> None:
    message = stop_of(CORE, "id-1")
    assert (message.model_name, message.id) == ("tensorrt_llm", "id-1")
    told = {one.name: (list(one.shape), one.datatype) for one in message.inputs}
    assert told["stop"] == ([1, 1], "BOOL")
    assert told["input_ids"] == told["request_output_len"] == ([1, 1], "INT32")
    assert message.raw_input_contents[-1] == b"\x01"


def test_a_model_that_does_not_stream_is_not_asked_to() -> None:
    once = contract_of(replace(LLMAPI, decoupled=False), {})
    assert sent(once)["streaming"] == [False]


def test_the_models_that_one_is_made_of() -> None:
    assert parts_of(ENSEMBLE) == ("preprocessing", "tensorrt_llm")
    assert parts_of(BLS) == ("tensorrt_llm",)
    assert parts_of(replace(BLS, parameters={"tensorrt_llm_model_name": "mine"})) == ("mine",)
    assert parts_of(LLMAPI) == parts_of(VLLM) == ()


def test_a_step_whose_instances_overtake_each_other_is_found() -> None:
    last = ModelFacts("postprocessing", {}, {}, instances=2)
    assert disorders(STEPS | {"postprocessing": last}) == "postprocessing"
    assert not disorders(STEPS | {"postprocessing": replace(last, instances=1)})
