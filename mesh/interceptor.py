"""The one server interceptor: the gate, quotas, deadline, trace, metrics, log, audit and error mapping around every call.

It keeps each handler's kind (coroutine or async generator) and never swallows a cancellation. What a handler raises
leaves it as a `google.rpc.Status`: a domain error with its own code, anything else as INTERNAL with a text that tells
nothing, and with a traceback in the log.
"""

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2
from grpc_status import rpc_status
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace

from mesh import deadline, errors, logs, metrics, priorities
from mesh.access import identity
from mesh.access.audit import AuditLog, resource_of
from mesh.access.gate import Gate, admit_unasked
from mesh.access.quotas import Quotas

log = logs.get(__name__)
tracer = trace.get_tracer("murphey")

_CALLS = metrics.counter("grpc_calls", "Calls that ended, by code.", ("service", "method", "code"))
_SECONDS = metrics.histogram("grpc_call_seconds", "From a call's start to its end.", ("service", "method"))
_TENANT_CALLS = metrics.counter("tenant_calls", "Calls that ended, by tenant and code.", ("service", "tenant", "code"))
_RUNNING = metrics.gauge("grpc_running_calls", "Calls that are running.", ("service", "method"))

_NOT_NOTED = (code_pb2.OK, code_pb2.RESOURCE_EXHAUSTED)
"""Counted and not logged: under overload to refuse must cost next to nothing."""
_UNBOUNDED_S = 1e8
"""grpc reports a huge number where the caller set no deadline."""
_NEARLY_OVER, _NEARLY_OVER_S = 0.02, 0.05
"""The part of a call's time and the seconds before its end in which a cancellation is its deadline's: grpc writes deadlines
rounded up to a hundredth and counts from a call's arrival, so that a client gives up before its server knows of it."""


class CallBoundary(grpc.aio.ServerInterceptor):
    """Stands around every handler of a server."""

    def __init__(
        self, service: str, gate: Gate | None = None, quotas: Quotas | None = None, audit: AuditLog | None = None
    ) -> None:
        self._service = service
        self._gate, self._quotas, self._audit = gate, quotas, audit

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method  # pyright: ignore[reportAttributeAccessIssue]
        if handler is None:
            return None
        refusal = await self._refusal(method, handler_call_details)
        if refusal is None and method.startswith(("/grpc.health.", "/grpc.reflection.")):
            return handler
        kind = ("stream" if handler.request_streaming else "unary", "stream" if handler.response_streaming else "unary")
        make_handler = getattr(grpc, f"{'_'.join(kind)}_rpc_method_handler")
        if refusal is not None:  # what it brings is not even read
            wrapped = (
                self._streaming(method, _refusing_stream(refusal))
                if handler.response_streaming
                else self._single(method, _refusing(refusal))
            )
            return make_handler(wrapped, None, handler.response_serializer)
        behavior = _reading(getattr(handler, "_".join(kind)), handler.request_streaming)
        wrapped = self._streaming(method, behavior) if handler.response_streaming else self._single(method, behavior)
        return make_handler(wrapped, _read_by(handler.request_deserializer), handler.response_serializer)

    async def _refusal(self, method: str, details: grpc.HandlerCallDetails) -> Exception | None:
        """Why the call is not let in. Sets who calls, and how urgently, in the call's own task, which runs the handler too."""
        metadata = details.invocation_metadata or ()  # pyright: ignore[reportAttributeAccessIssue]
        if self._gate is None:
            admit_unasked(metadata)
        try:
            if self._gate is not None:
                await self._gate.admit(method, metadata)
                caller = identity.current.get()
                if caller is not None and self._quotas is not None:
                    self._quotas.admit(caller)
            priorities.priority.set(priorities.read(metadata))
        except Exception as error:
            return error
        return None

    def _single(self, method: str, behavior: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(request: Any, context: grpc.aio.ServicerContext) -> Any:
            with self._observed(method, context) as observed:
                observed.messages.append(request)
                try:
                    response = await behavior(request, context)
                    observed.messages.append(response)
                    return response
                except Exception as error:
                    await self._abort(error, observed, context)

        return call

    def _streaming(self, method: str, behavior: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def call(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
            with self._observed(method, context) as observed:
                observed.messages.append(request)
                try:
                    async with aclosing(behavior(request, context)) as responses:  # pyright: ignore[reportArgumentType]
                        async for response in responses:
                            yield response
                except Exception as error:
                    await self._abort(error, observed, context)

        return call

    async def _abort(self, error: Exception, observed: "_Observed", context: grpc.aio.ServicerContext) -> None:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if isinstance(error, grpc.RpcError):
            error = errors.from_rpc_error(error, "service behind this one")
        if (database := sys.modules.get("mesh.database")) and (outage := database.outage(error)):
            log.warning("database_failed", method=observed.method, exc_info=error)
            error = outage
        if not isinstance(error, errors.MurpheyError):
            log.error("call_failed", method=observed.method, exc_info=error)
            error = errors.Internal(f"The {self._service} failed on this call; its log says why.")
        observed.code = error.code
        observed.message = error.message
        status = errors.to_status(error, self._service)
        await context.abort_with_status(rpc_status.to_status(status))  # pyright: ignore[reportAttributeAccessIssue]

    @contextmanager
    def _observed(self, method: str, context: grpc.aio.ServicerContext) -> "Iterator[_Observed]":
        left_s = context.time_remaining()
        deadline.deadline.set(None if left_s is None or left_s > _UNBOUNDED_S else time.monotonic() + left_s)
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        name = method.lstrip("/")
        parent = propagate.extract(metadata)
        span = tracer.start_span(name, context=parent, kind=trace.SpanKind.SERVER)
        # Never detached: the context ends with the call's own task, and a closed generator may end in another one.
        otel_context.attach(trace.set_span_in_context(span, parent))
        labels = (self._service, name.rpartition("/")[2])
        running = _RUNNING.labels(*labels)
        running.inc()
        observed = _Observed(method)
        try:
            yield observed
        except BaseException:
            if observed.code == code_pb2.OK:
                is_over = left_s is not None and context.time_remaining() <= _NEARLY_OVER * left_s + _NEARLY_OVER_S
                observed.code = code_pb2.DEADLINE_EXCEEDED if is_over else code_pb2.CANCELLED
            raise
        finally:
            running.dec()
            observed.finish(labels, span)
            if self._audit is not None:
                ended = (observed.code, observed.message)
                self._audit.note(method, identity.current.get(), observed.resource, ended, observed.trace_id(span))


class _Unreadable:
    """Bytes that are no message of the method's request."""

    @staticmethod
    def error() -> errors.InvalidInput:
        """As the caller is told."""
        return errors.InvalidInput(
            "The request cannot be read: its bytes are no message of the type that this method takes."
        )


def _read_by(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """grpc would call bytes that cannot be read UNKNOWN, with a traceback in the log; it is the caller who is wrong."""

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _Unreadable()

    return read


def _reading(behavior: Callable[..., Any], streams: bool) -> Callable[..., Any]:
    """The behavior, for requests that may be unreadable."""

    async def readable(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            if isinstance(request, _Unreadable):
                raise request.error()
            yield request

    def call(request: Any, context: grpc.aio.ServicerContext) -> Any:
        if isinstance(request, _Unreadable):
            raise request.error()
        return behavior(readable(request) if streams else request, context)

    return call


def _refusing(refusal: Exception) -> Callable[..., Awaitable[Any]]:
    async def refuse(request: Any, context: grpc.aio.ServicerContext) -> Any:
        raise refusal

    return refuse


def _refusing_stream(refusal: Exception) -> Callable[..., AsyncIterator[Any]]:
    async def refuse(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        raise refusal
        yield  # what makes it a stream

    return refuse


class _Observed:
    """A call under way: what is known of it when it ends."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.code: int = code_pb2.OK
        self.message = ""
        self.messages: list[Any] = []
        """The request, and the response once it is there; either may be a stream."""
        self._start = time.perf_counter()

    @property
    def resource(self) -> str:
        """What the call is about, as far as its messages name it."""
        return resource_of(*(message for message in self.messages if isinstance(message, Message)))

    @staticmethod
    def trace_id(span: trace.Span) -> str:
        """In hexadecimal, or empty where nothing is traced."""
        context = span.get_span_context()
        return f"{context.trace_id:032x}" if context.is_valid else ""

    def finish(self, labels: tuple[str, str], span: trace.Span) -> None:
        elapsed_s = time.perf_counter() - self._start
        code = code_pb2.Code.Name(self.code)  # pyright: ignore[reportArgumentType]
        _CALLS.labels(*labels, code).inc()
        _SECONDS.labels(*labels).observe(elapsed_s)
        span.set_attribute("rpc.grpc.status_code", self.code)
        span.end()
        write = log.debug if self.code in _NOT_NOTED else log.info
        notes: dict[str, str] = {}
        if (caller := identity.current.get()) is not None:
            notes["caller"] = caller.caller
            _TENANT_CALLS.labels(labels[0], metrics.tenant_label(caller.tenant), code).inc()
        if self.code in (code_pb2.UNAUTHENTICATED, code_pb2.PERMISSION_DENIED, code_pb2.RESOURCE_EXHAUSTED):
            notes["refused"] = self.message  # which never holds a secret
        write("call", method=self.method, code=code, elapsed_ms=round(elapsed_s * 1000, 1), **notes)
