"""What the responses of a completion become, however they come."""

import struct
from itertools import pairwise

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.engines.base import RemoteRequest
from generator.engines.triton.contracts import Kind
from generator.engines.triton.faults import said
from generator.engines.triton.responses import ResponseReader
from generator.requests import FinishReason, Guidance, Prompt, Sampling, Usage
from mesh.errors import FailedPrecondition, InvalidInput, MurpheyError, Overloaded, Unavailable
from murphey.triton import inference_pb2 as pb
from tests.generator.test_triton_contracts import CONTRACTS

REQUEST = RemoteRequest(Prompt(text="The secret recipe of our house"), 16)


def response(text: bytes | None = None, final: bool = False, reason: str = "", **numbers: int) -> pb.ModelInferResponse:
    message = pb.ModelInferResponse()
    message.parameters["triton_final_response"].bool_param = final
    for name, value in {"text_output": text, "finish_reason": reason.encode() or None}.items():
        if value is not None:
            message.outputs.add(name=name, datatype="BYTES", shape=[1])
            message.raw_output_contents.append(struct.pack("<I", len(value)) + value)
    for name, number in numbers.items():
        message.outputs.add(name=name, datatype="UINT32", shape=[])
        message.raw_output_contents.append(struct.pack("<I", number))
    return message


def read(kind: Kind, *responses: pb.ModelInferResponse) -> tuple[str, ResponseReader, int]:
    reader, texts, tokens = ResponseReader(CONTRACTS[kind], "grpc://a"), "", 0
    for one in responses:
        assert not reader.over
        if new := reader.read(one):
            texts, tokens = texts + new.text, tokens + new.tokens
    assert reader.over
    return texts, reader, tokens


SAID = "grö\N{LATIN SMALL LETTER SHARP S}e \N{ROCKET} ok"


@given(cuts=st.lists(st.integers(1, len(SAID.encode()) - 1), unique=True, max_size=12))
def test_bytes_may_be_cut_anywhere(cuts: list[int]) -> None:
    raw = SAID.encode()
    pieces = [raw[start:end] for start, end in pairwise([0, *sorted(cuts), len(raw)])]
    assert read(Kind.ENSEMBLE, *(response(piece) for piece in pieces), response(final=True))[0] == SAID
    wholes = [raw[:end] for end in [*sorted(cuts), len(raw)]]
    assert read(Kind.LLMAPI, *(response(whole) for whole in wholes), response(final=True))[0] == SAID


def test_half_a_character_that_a_server_wrote_waits_for_the_rest() -> None:
    half = "gr\N{REPLACEMENT CHARACTER}"
    wholes = [response(one.encode()) for one in ("gr", half, half + "\N{REPLACEMENT CHARACTER}", "grö", half)]
    assert read(Kind.LLMAPI, *wholes[:4], response("größe".encode(), final=True))[0] == "größe"
    assert read(Kind.LLMAPI, *wholes[:2], response(final=True))[0] == half  # it never came


def test_the_end_in_every_mode() -> None:
    for kind in Kind:
        assert read(kind, response(b"a"), response(b"a" if kind is Kind.LLMAPI else b"", final=True))[0] == "a"
        assert read(kind, response(b"a"), response(final=True))[0] == "a"
    _, reader, _ = read(Kind.LLMAPI, response(b"a", reason="None"), response(b"ab", reason="length"))
    assert (reader.finish, reader.final) == (FinishReason.LENGTH, False)
    _, reader, _ = read(Kind.ENSEMBLE, response(b"a", final=True))
    assert (reader.finish, reader.counted) == (None, False)


def test_usage_is_what_the_server_tells_or_what_was_seen() -> None:
    _, reader, tokens = read(
        Kind.VLLM,
        response(b"a", num_input_tokens=7, num_output_tokens=2),
        response(b"", num_input_tokens=7, num_output_tokens=1),
        response(b"b", final=True, reason="stop", num_input_tokens=7, num_output_tokens=1),
    )
    assert (reader.usage, reader.counted, tokens) == (Usage(7, 0, 4), True, 4)
    _, reader, tokens = read(Kind.ENSEMBLE, response(b"a"), response(b""), response(b"b"), response(final=True))
    assert (reader.usage, reader.counted, tokens) == (Usage(0, 0, 3), False, 3)


def test_typed_contents_are_read_too() -> None:
    message = pb.ModelInferResponse()
    message.outputs.add(name="text_output", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"a")
    message.parameters["triton_final_response"].bool_param = True
    assert read(Kind.VLLM, message)[0] == "a"


def test_whole_texts_that_overtake_each_other_are_put_in_order() -> None:
    wholes = [response(one) for one in (b"one", b"one two three", b"one two", b"one two three four")]
    assert read(Kind.LLMAPI, *wholes, response(final=True))[0] == "one two three four"


@pytest.mark.parametrize("last", [b"other", b"on"])
def test_what_was_said_cannot_be_taken_back(last: bytes) -> None:
    reader = ResponseReader(CONTRACTS[Kind.LLMAPI], "grpc://a")
    reader.read(response(b"one"))
    with pytest.raises(Unavailable, match="took back"):
        reader.read(response(last, final=True))


def test_a_reason_that_is_no_end_is_a_failure() -> None:
    for reason in ("timeout", "cancelled", "abort"):
        with pytest.raises(Unavailable, match=reason):
            ResponseReader(CONTRACTS[Kind.LLMAPI], "grpc://a").read(response(b"a", final=True, reason=reason))


CODE = grpc.StatusCode
TRACE = (
    'Traceback (most recent call last):\n  File "model.py", line 1\nc_python_backend_utils.TritonModelException: gone\n'
)
FAULTS: list[tuple[grpc.StatusCode | None, str, type[MurpheyError], str]] = [
    (CODE.UNAVAILABLE, "[request id: 1] Exceeds maximum queue size", Overloaded, "full"),
    (None, "Request timeout expired", Overloaded, "full"),
    (CODE.RESOURCE_EXHAUSTED, "", Overloaded, "full"),
    (CODE.NOT_FOUND, "Request for unknown model: 'x' is not found", FailedPrecondition, "unknown model: 'x'"),
    (None, "Request for unknown model: 'x' is not found", FailedPrecondition, "Check urls and model"),
    (CODE.UNIMPLEMENTED, "", FailedPrecondition, "does not serve"),
    (CODE.UNAUTHENTICATED, "", FailedPrecondition, "api_key"),
    (CODE.INVALID_ARGUMENT, "unexpected shape for input 'top_k'", InvalidInput, "refuses the request: unexpected shape"),
    (CODE.INTERNAL, "Error generating request: The prompt is too long", InvalidInput, "prompt is refused"),
    (CODE.UNAVAILABLE, "failed to connect to all addresses", Unavailable, "cannot be reached"),
    (CODE.UNAVAILABLE, "Socket closed", Unavailable, "Socket closed"),
    (CODE.CANCELLED, "Request cancelled by client", Unavailable, "CANCELLED"),
    (CODE.INTERNAL, TRACE, Unavailable, "TritonModelException: gone"),
    (CODE.INTERNAL, "no: The secret recipe of our house", Unavailable, "failed with status INTERNAL. Try"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "words", "kind", "told"), FAULTS)
def test_what_servers_say_when_they_fail(
    code: grpc.StatusCode | None, words: str, kind: type[MurpheyError], told: str
) -> None:
    error = said(code, words, "grpc://a", REQUEST)
    assert type(error) is kind
    assert told in error.message
    assert "secret recipe" not in error.message
    assert "File" not in error.message


def test_a_form_that_a_server_refuses_is_named() -> None:
    guided = RemoteRequest(Prompt(text="a"), 4, Sampling(guidance=Guidance("regex", "(((")))
    error = said(CODE.INTERNAL, "Error generating stream: Invalid regex constraint", "grpc://a", guided)
    assert (type(error), error.field) == (InvalidInput, "sampling.guidance.regex")
