"""Deadlines, traces and tenants, carried from a call to the calls it makes.

grpc.aio does not pass a deadline on by itself. The server's interceptor puts each call's deadline, trace and caller into
context variables; `call_options` hands them to the next call.
"""

import time
from contextvars import ContextVar
from typing import TypedDict

from opentelemetry import propagate

from mesh.access import identity
from mesh.errors import DeadlineExceeded

deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
"""The current call's end on the monotonic clock, or None when its caller set none."""


class CallOptions(TypedDict):
    """Keyword arguments of any stub method."""

    timeout: float
    metadata: list[tuple[str, str]]


def remaining_s(default_s: float) -> float:
    """Seconds that the current call has left, at most `default_s`. DeadlineExceeded when none are."""
    end = deadline.get()
    if end is None:
        return default_s
    left = end - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded("The call's time is over.")
    return min(left, default_s)


def call_options(default_timeout_s: float, tenant: str = "") -> CallOptions:
    """For a stub method: what is left of the current call's time, its trace, and for whom the call is: the tenant that is
    named, as one must be by what works without a call, or the current call's.
    """
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    caller = identity.current.get()
    if tenant or caller is not None:
        carrier[identity.TENANT] = tenant or (caller.tenant if caller else "")
    return {"timeout": remaining_s(default_timeout_s), "metadata": list(carrier.items())}
