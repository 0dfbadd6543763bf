"""What the server's store and catalog share: conditions in the client's classes, and the client's errors in ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from qdrant_client import models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from mesh.errors import Internal, MurpheyError, NotFound, Overloaded, Unavailable
from retriever.stores.conditions import Dialect

PREFIX = "murphey--"
"""Before every name in Qdrant, so that a server can be shared."""

_AWAY = "The Qdrant server cannot be reached. Is it running, and are qdrant_url and, with TLS, qdrant_ca right?"
_REFUSED = "The Qdrant server refuses the retriever: look at qdrant_api_key."


def _times(path: str, **bounds: str | None) -> models.FieldCondition:
    return models.FieldCondition(key=path, range=models.DatetimeRange.model_validate(bounds))


SERVER = Dialect(
    filter=lambda must=None, should=None, must_not=None: models.Filter(
        must=must or None, should=should or None, must_not=must_not or None
    ),
    value=lambda path, value: models.FieldCondition(key=path, match=models.MatchValue(value=value)),
    any_of=lambda path, values: models.FieldCondition(key=path, match=models.MatchAny(any=values)),
    numbers=lambda path, **bounds: models.FieldCondition(key=path, range=models.Range(**bounds)),
    times=_times,
    is_empty=lambda path: models.IsEmptyCondition(is_empty=models.PayloadField(key=path)),
    has_id=lambda ids: models.HasIdCondition(has_id=[*ids]),
)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Around calls of the client. `what` names what may be missing."""
    try:
        yield
    except UnexpectedResponse as error:
        raise _by_status(error.status_code or 0, what) from error
    except grpc.RpcError as error:
        raise _by_code(error.code(), what) from error  # pyright: ignore[reportAttributeAccessIssue]
    except ResourceExhaustedResponse as error:
        raise Overloaded("The Qdrant server has no room now.", retry_after_s=error.retry_after_s) from error
    except ResponseHandlingException as error:
        raise Unavailable(_AWAY) from error
    except ValueError as error:
        if "not found" in str(error):  # how the client's local mode says it
            raise NotFound(f"There is no {what}.") from error
        raise


def _by_status(status: int, what: str) -> MurpheyError:
    if status == 404:
        return NotFound(f"There is no {what}.")
    if status in (429, 503):
        return Overloaded("The Qdrant server has no room now.")
    if status in (401, 403):
        return Unavailable(_REFUSED)
    if status in (502, 504):  # of what stands before it, while it is away
        return Unavailable(_AWAY)
    return Internal(f"The Qdrant server answered with status {status}.")


def _by_code(code: grpc.StatusCode, what: str) -> MurpheyError:
    if code is grpc.StatusCode.NOT_FOUND:
        return NotFound(f"There is no {what}.")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Overloaded("The Qdrant server has no room now.")
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return Unavailable(_REFUSED)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return Unavailable(_AWAY)
    return Internal(f"The Qdrant server answered {code.name}.")
