"""Tensors as they go over the wire: one-dimensional lists to raw bytes, and the first values of what comes back.

A BYTES element is four bytes of length, little-endian, and the bytes; all else is little-endian without gaps.
"""

import struct
from collections.abc import Sequence

from mesh.errors import FailedPrecondition
from murphey.triton import inference_pb2 as pb

Value = bool | int | float | str
_FORMATS = {
    "BOOL": "?", "INT32": "i", "UINT32": "I", "INT64": "q", "UINT64": "Q", "FP32": "f", "FP64": "d",
}  # fmt: skip
_LENGTH = struct.Struct("<I")


def add_input(request: pb.ModelInferRequest, name: str, datatype: str, values: Sequence[Value], batched: bool) -> None:
    """An input of shape [n], or [1, n] of a model with a batch dimension. FailedPrecondition for a type not known."""
    shape = [1, len(values)] if batched else [len(values)]
    request.inputs.append(pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape))
    request.raw_input_contents.append(_raw(name, datatype, values))


def first_values(response: pb.ModelInferResponse) -> dict[str, bytes | int]:
    """The first element of each output that has one, whole numbers and texts only.

    By the type that came, not the one that the model's metadata tells: the llmapi model sends numbers as text.
    """
    found: dict[str, bytes | int] = {}
    for index, tensor in enumerate(response.outputs):
        raw = response.raw_output_contents[index] if index < len(response.raw_output_contents) else None
        value = _first_typed(tensor) if raw is None else _first_raw(tensor.datatype, raw)
        if value is not None:
            found[tensor.name] = value
    return found


def _raw(name: str, datatype: str, values: Sequence[Value]) -> bytes:
    if datatype == "BYTES":
        encoded = [str(value).encode() for value in values]
        return b"".join(_LENGTH.pack(len(one)) + one for one in encoded)
    if datatype not in _FORMATS:
        raise FailedPrecondition(f"The model's input {name} is of the type {datatype}, which is not known.")
    return struct.pack(f"<{len(values)}{_FORMATS[datatype]}", *values)


def _first_raw(datatype: str, raw: bytes) -> bytes | int | None:
    if datatype == "BYTES":
        if len(raw) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(raw)
        return raw[_LENGTH.size : _LENGTH.size + length]
    form = _FORMATS.get(datatype, "?")
    if form in "?fd" or len(raw) < struct.calcsize(form):
        return None
    return struct.unpack_from(f"<{form}", raw)[0]


def _first_typed(tensor: pb.ModelInferResponse.InferOutputTensor) -> bytes | int | None:
    """Of a server that does not send raw bytes, such as Dynamo's front end."""
    contents = tensor.contents
    numbers = (contents.int_contents, contents.int64_contents, contents.uint_contents, contents.uint64_contents)
    for values in (contents.bytes_contents, *numbers):
        if values:
            return values[0]
    return None
