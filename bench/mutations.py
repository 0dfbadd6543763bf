"""Requests and documents that nobody would send: messages with random fields of odd values, and bytes that are damaged."""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from murphey.generator.v1 import generator_pb2
from murphey.ingest.v1 import ingest_pb2
from murphey.orchestrator.v1 import orchestrator_pb2
from murphey.retriever.v1 import retriever_pb2

MODULES = {
    "generator": generator_pb2, "ingest": ingest_pb2, "orchestrator": orchestrator_pb2, "retriever": retriever_pb2,
}  # fmt: skip
_DEEPEST = 6
_MOST_REPEATED = 4
_WHOLE = (0, 1, -1, 2, 7, 100, 10_001, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 2**64 - 1)
_REAL = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-300, 1e300, math.inf, -math.inf, math.nan, 3.4e38)
_TEXT = (
    "", " ", "x", "default", "collections/default", "collections/", "collections/../../etc", "collections/a/documents/b",
    "models/none", "models/", "jobs/1", "conversations/0", "answers/0", "' OR 1=1 --", "{{7*7}}", "\x00", "\u202eabc", "🦜" * 9,
    "\N{COMBINING ACUTE ACCENT}" * 300, "a" * 9_000, "../../../etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/",
    "<|im_end|>", "{", "[", "(?:(a+)+)+$", '{"type": "object"}', 'root ::= "a"', "2026-13-45T99:00:00Z", "text/plain",
)  # fmt: skip
_BYTES = (b"", b"\x00", b"PK\x03\x04", b"%PDF-1.7\n", b"\xff\xfe", b"a" * 5_000, b"\x1f\x8b\x08" + bytes(64))


@dataclass(frozen=True)
class Method:
    """One RPC: the service that has it, its path, and what its requests are."""

    service: str
    path: str
    request: Descriptor
    streams_requests: bool
    streams_responses: bool


def methods() -> list[Method]:
    """Every RPC of every service."""
    found: list[Method] = []
    for name, module in MODULES.items():
        for service in module.DESCRIPTOR.services_by_name.values():
            found += [_method(name, service, method) for method in service.methods]
    return found


def _method(name: str, service: ServiceDescriptor, method: MethodDescriptor) -> Method:
    return Method(
        name, f"/{service.full_name}/{method.name}", method.input_type, method.client_streaming, method.server_streaming
    )


def requests(method: Method, chance: random.Random) -> list[bytes]:
    """What one call sends: mostly messages of the right type with odd values, sometimes damaged ones."""
    count = chance.randint(1, 4) if method.streams_requests else 1
    sent = [message(method.request, chance).SerializePartialToString() for _ in range(count)]
    return [damaged(one, chance) if chance.random() < 0.25 else one for one in sent]


def message(kind: Descriptor, chance: random.Random, depth: int = 0) -> Message:
    """A message with about half of its fields set."""
    made = message_factory.GetMessageClass(kind)()
    for field in kind.fields:
        if chance.random() < 0.5 and (field.message_type is None or depth < _DEEPEST):
            _set(made, field, chance, depth)
    return made


def _set(made: Message, field: FieldDescriptor, chance: random.Random, depth: int) -> None:
    values = getattr(made, field.name)
    if field.is_repeated and field.message_type is not None and field.message_type.GetOptions().map_entry:
        for _ in range(chance.randint(0, _MOST_REPEATED)):
            entry = message(field.message_type, chance, depth + 1)
            made.MergeFrom(_with_entry(made, field, entry))
    elif field.is_repeated:
        for _ in range(chance.randint(0, _MOST_REPEATED)):
            values.append(_value(field, chance, depth))
    elif field.message_type is not None:
        values.CopyFrom(message(field.message_type, chance, depth + 1))
    else:
        setattr(made, field.name, _value(field, chance, depth))


def _with_entry(made: Message, field: FieldDescriptor, entry: Message) -> Message:
    """A message of the same type whose map has this entry: on the wire a map is a list of entries."""
    body = entry.SerializePartialToString()
    wire = _varint(field.number << 3 | 2) + _varint(len(body)) + body
    return type(made).FromString(wire)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _value(field: FieldDescriptor, chance: random.Random, depth: int) -> object:
    if field.message_type is not None:
        return message(field.message_type, chance, depth + 1)
    kinds: dict[int, Callable[[], object]] = {
        FieldDescriptor.CPPTYPE_STRING: lambda: _text_or_bytes(field, chance),
        FieldDescriptor.CPPTYPE_BOOL: lambda: chance.random() < 0.5,
        FieldDescriptor.CPPTYPE_ENUM: lambda: chance.choice((0, 1, 2, 3, 99, -1)),
        FieldDescriptor.CPPTYPE_DOUBLE: lambda: chance.choice(_REAL),
        FieldDescriptor.CPPTYPE_FLOAT: lambda: chance.choice(_REAL[:5] + _REAL[7:]),
        FieldDescriptor.CPPTYPE_INT32: lambda: _whole(chance, -(2**31), 2**31 - 1),
        FieldDescriptor.CPPTYPE_INT64: lambda: _whole(chance, -(2**63), 2**63 - 1),
        FieldDescriptor.CPPTYPE_UINT32: lambda: _whole(chance, 0, 2**32 - 1),
        FieldDescriptor.CPPTYPE_UINT64: lambda: _whole(chance, 0, 2**64 - 1),
    }
    return kinds[field.cpp_type]()


def _text_or_bytes(field: FieldDescriptor, chance: random.Random) -> str | bytes:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return chance.choice((*_BYTES, chance.randbytes(chance.randint(0, 300))))
    if chance.random() < 0.2:
        return "".join(chr(chance.choice((chance.randint(1, 0xD7FF), 65, 32))) for _ in range(chance.randint(0, 40)))
    return chance.choice(_TEXT)


def _whole(chance: random.Random, low: int, high: int) -> int:
    return chance.choice([number for number in _WHOLE if low <= number <= high])


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A few of: bits flipped, cut off, a piece taken out, repeated, or replaced by noise."""
    for _ in range(chance.randint(1, 8)):
        data = chance.choice((_flipped, _cut, _without_piece, _repeated, _noisy))(data, chance)
    return data


def _piece(data: bytes, chance: random.Random) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.choice((1, 4, 64, 1024)))


def _flipped(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(min(len(changed), chance.choice((1, 3, 30)))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)] if chance.random() < 0.3 else data[: len(data) - chance.randrange(9)]


def _without_piece(data: bytes, chance: random.Random) -> bytes:
    start, end = _piece(data, chance)
    return data[:start] + data[end:]


def _repeated(data: bytes, chance: random.Random) -> bytes:
    start, end = _piece(data, chance)
    return data[:end] + data[start:end] * chance.choice((1, 2, 20)) + data[end:]


def _noisy(data: bytes, chance: random.Random) -> bytes:
    start, end = _piece(data, chance)
    return data[:start] + chance.randbytes(end - start) + data[end:]


def odd_metadata(chance: random.Random) -> list[tuple[str, str]]:
    """Headers that most calls do not have."""
    if chance.random() < 0.9:
        return []
    known = ("x-murphey-priority", "traceparent", "tracestate", "x-api-key", "authorization", "x-unknown")
    values = ("batch", "interactive", "", "urgent", "00-0-0-00", "Bearer", "Bearer x", "a" * 2_000, "%00")
    return [(chance.choice(known), chance.choice(values)) for _ in range(chance.randint(1, 3))]


def endless(seed: int) -> Iterator[tuple[int, random.Random]]:
    """Numbers from 0, each with chances of its own, so that one request can be made again by seed and number."""
    number = 0
    while True:
        yield number, random.Random(f"{seed}/{number}")
        number += 1
