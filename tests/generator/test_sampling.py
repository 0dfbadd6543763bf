"""Every range of sampling.proto, by the field that the caller is told."""

import math

import pytest

from generator.requests import Guidance, Sampling
from generator.sampling import check, wire_name
from mesh.errors import InvalidInput

ALL = frozenset(wire_name(field) for field in Sampling.__dataclass_fields__)

WRONG = [
    ("max_tokens", Sampling(max_tokens=0)),
    ("max_tokens", Sampling(max_tokens=-1)),
    ("min_tokens", Sampling(min_tokens=-1)),
    ("min_tokens", Sampling(min_tokens=9, max_tokens=8)),
    ("temperature", Sampling(temperature=-0.1)),
    ("temperature", Sampling(temperature=2.1)),
    ("temperature", Sampling(temperature=math.nan)),
    ("temperature", Sampling(temperature=math.inf)),
    ("top_p", Sampling(top_p=0.0)),
    ("top_p", Sampling(top_p=1.01)),
    ("top_p", Sampling(top_p=math.nan)),
    ("top_k", Sampling(top_k=-1)),
    ("min_p", Sampling(min_p=1.5)),
    ("min_p", Sampling(min_p=-math.inf)),
    ("repetition_penalty", Sampling(repetition_penalty=0.0)),
    ("repetition_penalty", Sampling(repetition_penalty=10.5)),
    ("repetition_penalty", Sampling(repetition_penalty=math.nan)),
    ("presence_penalty", Sampling(presence_penalty=-2.5)),
    ("frequency_penalty", Sampling(frequency_penalty=math.inf)),
    ("stop", Sampling(stop=("a",) * 17)),
    ("stop", Sampling(stop=("a", ""))),
    ("stop_token_ids", Sampling(stop_token_ids=(1,) * 65)),
    ("stop_token_ids", Sampling(stop_token_ids=(-1,))),
    ("stop_token_ids", Sampling(stop_token_ids=(1000,))),
    ("bad_words", Sampling(bad_words=("a",) * 65)),
    ("bad_words", Sampling(bad_words=("",))),
    ("guidance.regex", Sampling(guidance=Guidance("regex", ""))),
    ("guidance.json_schema", Sampling(guidance=Guidance("json_schema", "x" * 300_000))),
    ("time_limit", Sampling(time_limit_s=0.0)),
    ("time_limit", Sampling(time_limit_s=-1.0)),
    ("time_limit", Sampling(time_limit_s=math.inf)),
]


@pytest.mark.parametrize(("field", "sampling"), WRONG)
def test_out_of_range_names_the_field(field: str, sampling: Sampling) -> None:
    with pytest.raises(InvalidInput) as caught:
        check(sampling, ALL, "scripted", vocabulary_tokens=1000)
    assert caught.value.field == f"sampling.{field}"
    assert f"sampling.{field}" in caught.value.message


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(max_tokens=1, min_tokens=1, temperature=0.0, top_p=1.0, top_k=0, min_p=0.0),
        Sampling(temperature=2.0, top_p=0.001, min_p=1.0, repetition_penalty=10.0, presence_penalty=-2.0),
        Sampling(frequency_penalty=2.0, seed=0, stop=("a",) * 16, stop_token_ids=(0, 999), time_limit_s=0.001),
        Sampling(guidance=Guidance("regex", "a+")),
    ],
)
def test_the_ends_of_every_range_are_allowed(sampling: Sampling) -> None:
    check(sampling, ALL, "scripted", vocabulary_tokens=1000)


@pytest.mark.parametrize(
    ("field", "sampling"),
    [
        ("min_tokens", Sampling(min_tokens=0)),
        ("top_k", Sampling(top_k=5)),
        ("min_p", Sampling(min_p=0.1)),
        ("seed", Sampling(seed=0)),
        ("bad_words", Sampling(bad_words=("x",))),
        ("guidance", Sampling(guidance=Guidance("regex", "a"))),
        ("time_limit", Sampling(time_limit_s=1.0)),
    ],
)
def test_what_the_engine_cannot_honour_is_refused_by_name(field: str, sampling: Sampling) -> None:
    with pytest.raises(InvalidInput, match="scripted cannot honour") as caught:
        check(sampling, frozenset({"max_tokens", "stop"}), "scripted", vocabulary_tokens=1000)
    assert caught.value.field == f"sampling.{field}"
