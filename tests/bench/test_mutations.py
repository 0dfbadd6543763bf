"""Requests that nobody would send: of every method, of the right type, and the same again from the same number."""

import random

from google.protobuf import message_factory
from google.protobuf.message import DecodeError

from bench.mutations import damaged, endless, message, methods, requests


def test_every_method_of_every_service_is_there() -> None:
    known = methods()
    assert {method.service for method in known} == {"generator", "ingest", "orchestrator", "retriever"}
    assert any(method.path == "/murphey.orchestrator.v1.OrchestratorService/StreamAnswer" for method in known)
    assert {method.streams_requests for method in known} == {True, False}


def test_messages_have_the_type_that_the_method_takes() -> None:
    chance = random.Random(1)
    for method in methods():
        kind = message_factory.GetMessageClass(method.request)
        for _ in range(20):
            made = message(method.request, chance)
            assert kind.FromString(made.SerializePartialToString()).DESCRIPTOR is method.request


def test_some_requests_are_damaged_beyond_reading_and_most_are_not() -> None:
    broken = whole = 0
    for (_, chance), method in zip(endless(5), methods() * 20, strict=False):
        for data in requests(method, chance):
            try:
                message_factory.GetMessageClass(method.request).FromString(data)
                whole += 1
            except DecodeError:
                broken += 1
    assert whole > broken > 0


def test_a_request_can_be_made_again() -> None:
    method = methods()[0]
    first, second = (
        [requests(method, chance) for (_, chance), _ in zip(endless(9), range(50), strict=False)] for _ in range(2)
    )
    assert first == second


def test_damage_changes_documents() -> None:
    chance = random.Random(2)
    data = bytes(range(256)) * 8
    assert sum(damaged(data, chance) != data for _ in range(100)) > 90
    assert isinstance(damaged(b"", chance), bytes)
