"""The domain's errors, and their one table to gRPC.

Domain code raises these and knows nothing of gRPC. The server's interceptor turns them into a `google.rpc.Status`
(`to_status`); a client turns the status back into the same class (`from_rpc_error`), so that an error keeps its meaning
over any number of hops. A message says what was wrong, with which value, and what to do; it never holds document text.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import grpc
from google.protobuf.any_pb2 import Any as AnyProto
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "murphey"
_LOST_STATUS = "Internal error from Core"
"""What grpc.aio makes of a call that the server ended while it was still being written to: it loses the server's status on
the way (https://github.com/grpc/grpc/issues/36066).
"""


class MurpheyError(Exception):
    """Something that a caller can understand. `field` is the request's field at fault, in proto path form."""

    code: ClassVar[int] = code_pb2.INTERNAL
    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, field: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s


class InvalidInput(MurpheyError):
    """The request is wrong whatever the state of the system; sending it again will not help."""

    code, reason = code_pb2.INVALID_ARGUMENT, "INVALID_INPUT"


class NotFound(MurpheyError):
    """What the request names does not exist."""

    code, reason = code_pb2.NOT_FOUND, "NOT_FOUND"


class AlreadyExists(MurpheyError):
    """What the request would create exists already, with other properties."""

    code, reason = code_pb2.ALREADY_EXISTS, "ALREADY_EXISTS"


class FailedPrecondition(MurpheyError):
    """The request is right, but not in this state; the message says what to do first."""

    code, reason = code_pb2.FAILED_PRECONDITION, "FAILED_PRECONDITION"


class Overloaded(MurpheyError):
    """There is no room now; try again after `retry_after_s` seconds."""

    code, reason = code_pb2.RESOURCE_EXHAUSTED, "OVERLOADED"

    def __init__(self, message: str, *, field: str | None = None, retry_after_s: float | None = 1.0) -> None:
        super().__init__(message, field=field, retry_after_s=retry_after_s)


class RateLimited(Overloaded):
    """The tenant asks for more at a time than its quota gives; `retry_after_s` is when there is enough again."""

    reason = "RATE_LIMITED"


class QuotaExceeded(MurpheyError):
    """The tenant keeps as much as its quota gives: something of it must go first, or the quota be raised."""

    code, reason = code_pb2.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED"


class Unavailable(MurpheyError):
    """A service or engine is down or restarting; the message names it."""

    code, reason = code_pb2.UNAVAILABLE, "UNAVAILABLE"

    def __init__(self, message: str, *, field: str | None = None, retry_after_s: float | None = 1.0) -> None:
        super().__init__(message, field=field, retry_after_s=retry_after_s)


class DeadlineExceeded(MurpheyError):
    """The caller's time was over before the work was done."""

    code, reason = code_pb2.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"


class PermissionDenied(MurpheyError):
    """The caller may not do this."""

    code, reason = code_pb2.PERMISSION_DENIED, "PERMISSION_DENIED"


class Unauthenticated(MurpheyError):
    """The caller has not proved who it is."""

    code, reason = code_pb2.UNAUTHENTICATED, "UNAUTHENTICATED"


class Unsupported(MurpheyError):
    """This build or configuration does not do it."""

    code, reason = code_pb2.UNIMPLEMENTED, "UNSUPPORTED"


class Corrupt(MurpheyError):
    """Stored data is not what was written."""

    code, reason = code_pb2.DATA_LOSS, "CORRUPT"


class Cancelled(MurpheyError):
    """The caller went away."""

    code, reason = code_pb2.CANCELLED, "CANCELLED"


class Internal(MurpheyError):
    """A bug; the details are in the log of the service that the message names."""


_BY_CODE: dict[int, type[MurpheyError]] = {
    error.code: error
    for error in (
        InvalidInput, NotFound, AlreadyExists, FailedPrecondition, Overloaded, Unavailable, DeadlineExceeded,
        PermissionDenied, Unauthenticated, Unsupported, Corrupt, Cancelled, Internal,
    )
}  # fmt: skip


_BY_REASON: dict[str, type[MurpheyError]] = {error.reason: error for error in (RateLimited, QuotaExceeded)}
"""Those that share their code with another one."""


def to_status(error: MurpheyError, service: str) -> status_pb2.Status:
    """The error as a status with ErrorInfo, and with BadRequest or RetryInfo where they apply."""
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata={"service": service})
    ]
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(int(error.retry_after_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(code=error.code, message=error.message, details=[_pack(detail) for detail in details])


def from_status(status: status_pb2.Status) -> MurpheyError:
    """The error that `to_status` was given, as far as the status tells."""
    field: str | None = None
    retry_after_s: float | None = None
    kind = _BY_CODE.get(status.code, Internal)
    for detail in status.details:
        bad_request, retry_info = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            kind = _BY_REASON.get(info.reason, kind)
        elif detail.Unpack(bad_request) and bad_request.field_violations:
            field = bad_request.field_violations[0].field
        elif detail.Unpack(retry_info):
            retry_after_s = retry_info.retry_delay.ToMilliseconds() / 1000
    return kind(status.message, field=field, retry_after_s=retry_after_s)


def from_rpc_error(error: grpc.RpcError, peer: str) -> MurpheyError:
    """A failed call's error; `peer` is the service that was called, as people know it."""
    try:
        status = rpc_status.from_call(error)  # pyright: ignore[reportArgumentType] - an AioRpcError is also a call
    except ValueError:
        status = None
    if status is not None:
        return from_status(status)
    code = error.code().value[0]  # pyright: ignore[reportAttributeAccessIssue]
    details = error.details() or "no details"  # pyright: ignore[reportAttributeAccessIssue]
    if code == code_pb2.UNAVAILABLE:
        return Unavailable(f"The {peer} cannot be reached ({details}). Is it running? Try again in a moment.")
    if code == code_pb2.DEADLINE_EXCEEDED:
        return DeadlineExceeded(f"The {peer} did not answer in time. Try again, or allow it more time.")
    if code == code_pb2.INTERNAL and details == _LOST_STATUS:
        return Unavailable(f"The {peer} ended the call early, and why was lost on the way. Try again.")
    return _BY_CODE.get(code, Internal)(f"The {peer} answered: {details}")


@contextmanager
def translated(peer: str) -> Iterator[None]:
    """Around calls to another service: its failures become this module's errors."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error, peer) from error


def _pack(message: Message) -> AnyProto:
    packed = AnyProto()
    packed.Pack(message)
    return packed
