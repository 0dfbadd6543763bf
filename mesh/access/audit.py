"""The audit log: who did what to which resource, when, and how it ended. One JSON object a line, only ever added to.

It has the calls that change or delete something, those of administrators, and those that were refused; not the calls of
services among themselves, which do what somebody's call asked for. Names of resources are in it, never their contents, nor what
proves who somebody is. It goes to a file of the service in the data folder, which is bounded: full files are kept aside, the
oldest is given up; or into the service's log.

A thread writes it, so that a slow disk holds up no call; what cannot be written is counted and told in the service's log.
"""

import getpass
import json
import logging
import logging.handlers
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from google.protobuf.message import Message
from google.rpc import code_pb2

from mesh import logs, metrics
from mesh.access.identity import Identity
from mesh.access.quotas import Bucket
from mesh.access.roles import ROLES, Scope
from mesh.settings import ServiceSettings

MAX_RESOURCE_CHARACTERS = 300
KEPT_FILES = 9
MEBIBYTE = 1024 * 1024
MAX_WAITING = 10_000
REFUSALS_PER_S, MOST_REFUSALS = 10.0, 500.0
"""So many refused calls are written down over time, and at once."""
_NAMES = ("name", "collection", "parent")
_HOLDERS = ("collection", "document", "conversation", "job", "header", "question")
_REFUSALS = (code_pb2.UNAUTHENTICATED, code_pb2.PERMISSION_DENIED, code_pb2.RESOURCE_EXHAUSTED)

_LOST = metrics.counter("audit_lost", "Entries of the audit log that could not be written.", ("service",))
log = logs.get(__name__)


@dataclass(frozen=True)
class Entry:
    """One call. `caller` is the id of an API key, `jwt:` and a token's subject, or empty where nobody proved who he is;
    `reason` says why a call was refused."""

    time: str
    service: str
    tenant: str
    caller: str
    method: str
    resource: str
    outcome: str
    reason: str
    trace_id: str


class AuditLog:
    """Of one service."""

    def __init__(self, service: str, waiting: "queue.Queue[logging.LogRecord]") -> None:
        self._service, self._waiting = service, waiting
        self._refusals = Bucket(REFUSALS_PER_S, MOST_REFUSALS, MOST_REFUSALS, time.monotonic())

    def note(self, method: str, caller: Identity | None, resource: str, ended: tuple[int, str], trace_id: str) -> None:
        """Writes the call down if it is one that belongs here; `ended` is its code and what was told of that."""
        code, message = ended
        refused = code in _REFUSALS
        if not (refused or _is_a_change(method, caller)):
            return
        if refused and self._is_flooded():
            _LOST.labels(self._service).inc()
            return
        tenant, who = ("", "") if caller is None else (caller.tenant, caller.caller)
        outcome = code_pb2.Code.Name(code)  # pyright: ignore[reportArgumentType]
        reason = message if refused else ""
        self.write(Entry(_now(), self._service, tenant, who, method, resource, outcome, reason, trace_id))

    def _is_flooded(self) -> bool:
        """Refusals cost a caller nothing: no flood of them shall push out what others have done."""
        if self._refusals.wait_s(1.0, time.monotonic()):
            return True
        self._refusals.take(1.0)
        return False

    def note_command(self, tenant: str, command: str, resource: str) -> None:
        """Writes down what somebody has done on this machine, with a command that no service is asked for."""
        self.write(Entry(_now(), self._service, tenant, f"user:{getpass.getuser()}", command, resource, "OK", "", ""))

    def write(self, entry: Entry) -> None:
        """Adds a line."""
        record = logging.makeLogRecord({"msg": json.dumps(asdict(entry), ensure_ascii=False), "levelno": logging.INFO})
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            _LOST.labels(self._service).inc()


class _Appending(logging.handlers.RotatingFileHandler):
    """Tells of what it could not write."""

    def __init__(self, service: str, path: Path, max_bytes: int) -> None:
        super().__init__(path, maxBytes=max_bytes, backupCount=KEPT_FILES, encoding="utf-8", delay=True)
        self._service = service
        self._complained = False

    def handleError(self, record: logging.LogRecord) -> None:
        _LOST.labels(self._service).inc()
        if not self._complained:
            log.error("audit_log_not_written", path=self.baseFilename, exc_info=True)
        self._complained = True


class _Listener(logging.handlers.QueueListener):
    """Stops after all that waits, however full the queue is: Python's own would raise queue.Full."""

    def enqueue_sentinel(self) -> None:
        self.queue.put(None)  # pyright: ignore[reportAttributeAccessIssue] - a queue.Queue, which has it


class _Telling(logging.Handler):
    """Puts entries among the lines of the service's log."""

    def emit(self, record: logging.LogRecord) -> None:
        log.info("audit", **json.loads(record.msg))


@contextmanager
def open_audit(settings: ServiceSettings) -> Iterator[AuditLog | None]:
    """The log of a service while inside, written to its end on leaving. None where nobody is asked who he is, or where its size
    is set to 0."""
    if settings.auth == "off" or not settings.audit_log_mib:
        yield None
        return
    with open_log(settings) as opened:
        yield opened


@contextmanager
def open_log(settings: ServiceSettings) -> Iterator[AuditLog]:
    """The same, whatever the settings say of who is asked: keys are made before anybody is."""
    handler = _Telling() if settings.audit_log == "log" else _file(settings)
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(MAX_WAITING)
    listener = _Listener(waiting, handler)
    listener.start()
    try:
        yield AuditLog(settings.service, waiting)
    finally:
        listener.stop()
        handler.close()


def _file(settings: ServiceSettings) -> _Appending:
    path = audit_path(settings.data, settings.service)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return _Appending(settings.service, path, max(1, settings.audit_log_mib * MEBIBYTE // (KEPT_FILES + 1)))


def audit_path(data: Path, service: str) -> Path:
    """Where a service's log is; files that were full stand beside it, numbered, the newest as 1."""
    return data / "audit" / f"{service}.jsonl"


def resource_of(*messages: Message | None) -> str:
    """The name of what a call is about, from its request or else from its response: the first that is set."""
    for message in messages:
        if message is not None and (found := _named(message) or _held(message)):
            return found[:MAX_RESOURCE_CHARACTERS]
    return ""


def _named(message: Message) -> str:
    fields = message.DESCRIPTOR.fields_by_name
    for name in _NAMES:
        field = fields.get(name)
        if field is not None and field.type == field.TYPE_STRING and (value := getattr(message, name)):
            return value
    return ""


def _held(message: Message) -> str:
    fields = message.DESCRIPTOR.fields_by_name
    for name in _HOLDERS:
        field = fields.get(name)
        is_there = field is not None and field.type == field.TYPE_MESSAGE and message.HasField(name)
        if is_there and (found := _named(getattr(message, name))):
            return found
    return ""


def _is_a_change(method: str, caller: Identity | None) -> bool:
    from_a_service = caller is not None and Scope.INTERNAL in caller.scopes
    return not from_a_service and ROLES.get(method) in (Scope.WRITE, Scope.ADMIN)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
