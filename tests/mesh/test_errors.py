"""Every domain error survives the trip through google.rpc.Status."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import grpc.aio
import pytest
from google.rpc import code_pb2

from mesh import errors
from mesh.server import Hosted, serving
from mesh.settings import ServiceSettings
from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1 import ingest_pb2_grpc as pb_grpc

ALL = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, errors.MurpheyError)]


@pytest.mark.parametrize("error_type", [error for error in ALL if error is not errors.MurpheyError])
def test_round_trip_keeps_class_text_field_and_delay(error_type: type[errors.MurpheyError]) -> None:
    error = error_type("What is wrong.", field="a.b", retry_after_s=2.5)
    status = errors.to_status(error, "retriever")
    restored = errors.from_status(status)
    assert status.code == error_type.code
    assert type(restored) is error_type
    assert (restored.message, restored.field, restored.retry_after_s) == ("What is wrong.", "a.b", 2.5)


def test_every_error_is_told_by_its_code_or_else_by_its_reason() -> None:
    told = [error for error in ALL if error is not errors.MurpheyError]
    codes = [error.code for error in told if error not in (errors.RateLimited, errors.QuotaExceeded)]
    assert len(set(codes)) == len(codes)
    assert code_pb2.OK not in codes
    assert len({error.reason for error in told}) == len(told)


def test_overload_always_says_when_to_come_back() -> None:
    assert errors.Overloaded("Full.").retry_after_s == 1.0


class Refusing(pb_grpc.IngestServiceServicer):
    """Takes no upload, and does not read to its end to say so."""

    async def UploadDocument(
        self, request_iterator: AsyncIterator[pb.UploadDocumentRequest], context: grpc.aio.ServicerContext
    ) -> pb.UploadDocumentResponse:
        raise errors.NotFound("There is no such collection.")


async def upload(stub: pb_grpc.IngestServiceStub) -> str:
    """Sends more than a connection takes at once; returns the class of error that comes of it."""
    call = stub.UploadDocument()
    with suppress(grpc.RpcError, asyncio.InvalidStateError):
        for _ in range(20):
            await call.write(pb.UploadDocumentRequest(data=bytes(256 * 1024)))
        await call.done_writing()
    try:
        with errors.translated("ingest service"):
            await call
    except errors.MurpheyError as error:
        return type(error).__name__
    raise AssertionError("the upload was taken")


async def test_a_call_that_is_refused_while_it_is_written_may_be_made_again() -> None:
    hosted = Hosted(
        "murphey.ingest.v1.IngestService",
        lambda server: pb_grpc.add_IngestServiceServicer_to_server(Refusing(), server),
    )
    async with (
        serving(ServiceSettings(drain_s=0), [hosted]) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = pb_grpc.IngestServiceStub(channel)
        ends = await asyncio.gather(*(upload(stub) for _ in range(40)))
    assert set(ends) <= {"NotFound", "Unavailable"}
