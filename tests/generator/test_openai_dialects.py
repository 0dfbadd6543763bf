"""What is asked of each kind of server: every sampling field is in the body, or refused by its name."""

from dataclasses import fields

import pytest

from generator import sampling as rules
from generator.engines.base import RemoteRequest
from generator.engines.openai.dialects import OPENAI, PLAIN, TRTLLM, VLLM, Dialect, body_of, dialect_of, path_of
from generator.requests import ChatMessage, Guidance, Prompt, Role, Sampling
from mesh.errors import InvalidInput

CHAT = Prompt(chat=(ChatMessage(Role.SYSTEM, "Be brief."), ChatMessage(Role.USER, "Hi")))
SCHEMA = '{"type": "object"}'
FULL = Sampling(
    max_tokens=9, min_tokens=2, temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, repetition_penalty=1.5,
    presence_penalty=0.25, frequency_penalty=-0.5, seed=11, stop=("a", "b", "c", "d", "e"), stop_token_ids=(3, 4),
)  # fmt: skip
EVERY = {
    "max_tokens": 1, "min_tokens": 1, "temperature": 0.5, "top_p": 0.5, "top_k": 1, "min_p": 0.5,
    "repetition_penalty": 1.5, "presence_penalty": 1.0, "frequency_penalty": 1.0, "seed": 1, "stop": ("a",),
    "stop_token_ids": (1,), "bad_words": ("a",), "guidance": Guidance("json_schema", SCHEMA), "time_limit_s": 1.0,
}  # fmt: skip


def body(sampling: Sampling, dialect: Dialect, prompt: Prompt = CHAT, ids: tuple[int, ...] | None = None) -> dict:
    return body_of(RemoteRequest(prompt, 9, sampling, ids), dialect, "org/Model")


def test_vllm_is_told_everything() -> None:
    assert body(FULL, VLLM) == {
        "model": "org/Model",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "max_tokens": 9, "min_tokens": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1,
        "repetition_penalty": 1.5, "presence_penalty": 0.25, "frequency_penalty": -0.5, "seed": 11,
        "stop": ["a", "b", "c", "d", "e"], "stop_token_ids": [3, 4],
    }  # fmt: skip


def test_the_contracts_defaults_are_sent_not_left_to_the_checkpoint() -> None:
    sent = body(Sampling(), VLLM, Prompt(text="x"))
    defaults = {"temperature": 0, "top_p": 1, "top_k": 0, "min_p": 0, "repetition_penalty": 1, "presence_penalty": 0}
    assert {name: sent[name] for name in defaults} == defaults
    assert sent["prompt"] == "x"
    assert not {"seed", "stop", "stop_token_ids", "structured_outputs", "response_format"} & sent.keys()


@pytest.mark.parametrize("dialect", [VLLM, TRTLLM, OPENAI, PLAIN], ids=lambda dialect: dialect.name)
def test_each_field_changes_the_body_or_is_refused_by_name(dialect: Dialect) -> None:
    assert EVERY.keys() == {field.name for field in fields(Sampling)}
    plain = body(Sampling(), dialect)
    for name, value in EVERY.items():
        sampling = Sampling(**{name: value})
        if rules.wire_name(name) not in dialect.fields:
            with pytest.raises(InvalidInput) as caught:
                rules.check(sampling, dialect.fields, "openai", None)
            assert caught.value.field == f"sampling.{rules.wire_name(name)}"
        elif name not in ("max_tokens", "time_limit_s"):  # the request's own field; the domain's
            assert body(sampling, dialect) != plain, name


def test_openai_itself_has_its_own_name_for_the_limit_and_takes_four_stops() -> None:
    sent = body(FULL, OPENAI)
    assert (sent["max_completion_tokens"], sent["stop"]) == (9, ["a", "b", "c", "d"])
    assert "max_tokens" not in sent
    assert body(FULL, OPENAI, Prompt(text="x"))["max_tokens"] == 9
    assert body(FULL, PLAIN)["max_tokens"] == 9


def test_ids_go_to_completions() -> None:
    assert body(FULL, VLLM, CHAT, (1, 2))["prompt"] == [1, 2]
    assert path_of(RemoteRequest(CHAT, 9, ids=(1, 2))) == "/completions"
    assert path_of(RemoteRequest(CHAT, 9)) == "/chat/completions"


SCHEMA_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "completion", "schema": {"type": "object"}, "strict": True},
}
FORMS = [
    (VLLM, Guidance("json_schema", SCHEMA), {"response_format": SCHEMA_FORMAT}),
    (VLLM, Guidance("regex", "[0-9]"), {"structured_outputs": {"regex": "[0-9]"}}),
    (VLLM, Guidance("grammar", 'root ::= "a"'), {"structured_outputs": {"grammar": 'root ::= "a"'}}),
    (TRTLLM, Guidance("json_schema", SCHEMA), {"response_format": {"type": "json", "schema": {"type": "object"}}}),
    (TRTLLM, Guidance("regex", "[0-9]"), {"response_format": {"type": "regex", "regex": "[0-9]"}}),
    (TRTLLM, Guidance("grammar", 'root ::= "a"'), {"response_format": {"type": "ebnf", "ebnf": 'root ::= "a"'}}),
    (OPENAI, Guidance("json_schema", SCHEMA), {"response_format": SCHEMA_FORMAT}),
]


@pytest.mark.parametrize(("dialect", "guidance", "sent"), FORMS)
def test_forms(dialect: Dialect, guidance: Guidance, sent: dict) -> None:
    assert body(Sampling(guidance=guidance), dialect).items() >= sent.items()


NO_FORMS = [
    (PLAIN, CHAT, Sampling(guidance=Guidance("regex", "a")), "sampling.guidance.regex"),
    (OPENAI, CHAT, Sampling(guidance=Guidance("grammar", "a")), "sampling.guidance.grammar"),
    (PLAIN, Prompt(text="x"), Sampling(guidance=Guidance("json_schema", SCHEMA)), "sampling.guidance.json_schema"),
    (VLLM, CHAT, Sampling(guidance=Guidance("json_schema", "{")), "sampling.guidance.json_schema"),
    (VLLM, CHAT, Sampling(guidance=Guidance("json_schema", "[]")), "sampling.guidance.json_schema"),
    (VLLM, CHAT, Sampling(guidance=Guidance("regex", "a"), bad_words=("b",)), "sampling.bad_words"),
]


@pytest.mark.parametrize(("dialect", "prompt", "sampling", "field"), NO_FORMS)
def test_forms_that_a_server_cannot_follow_are_refused(
    dialect: Dialect, prompt: Prompt, sampling: Sampling, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        body(sampling, dialect, prompt)
    assert caught.value.field == field


def test_bad_words_are_a_grammar_since_vllm_knows_them_in_one_cut_only() -> None:
    sent = body(Sampling(bad_words=("blue",)), VLLM)["structured_outputs"]
    assert 'excludes=("blue")' in sent["grammar"]


def test_the_kind_of_server_is_told_by_its_list_of_models() -> None:
    assert dialect_of("auto", "vllm", "0.32.0") is VLLM
    assert dialect_of("auto", "tensorrt_llm", "1.2") is TRTLLM
    assert dialect_of("auto", "system", "") is OPENAI
    assert dialect_of("auto", "llamacpp", "") is PLAIN
    assert dialect_of("vllm", "acme", "0.12.1") is VLLM
    for old in ("0.11.2", "", "dev"):
        assert dialect_of("vllm", "vllm", old).guidance == {"json_schema"}
        assert "bad_words" not in dialect_of("vllm", "vllm", old).fields
