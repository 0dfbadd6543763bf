"""Structured logs: one JSON object a line on stderr, with the trace they belong to. Never secrets or document text."""

import logging
import sys
from typing import Literal

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, WrappedLogger

from mesh.access import identity


def configure(service: str, level: str = "info", form: Literal["json", "console"] = "json") -> None:
    """Once a process, before its first line. Lines of libraries that use `logging` come out the same way."""
    shared = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
        _add_tenant,
        _add_service(service),
    ]
    renderer = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    chain = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info, renderer]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=chain, foreign_pre_chain=shared))
    logging.basicConfig(handlers=[handler], level=max(logging.WARNING, level_number(level)), force=True)
    logging.getLogger(service).setLevel(level_number(level))
    logging.getLogger("mesh").setLevel(level_number(level))


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module: `log = logs.get(__name__)`, then `log.info("document_indexed", chunks=7)`."""
    return structlog.stdlib.get_logger(name)


def level_number(level: str) -> int:
    """`info` -> 20."""
    return logging.getLevelNamesMapping()[level.upper()]


def _add_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
    return event


def _add_tenant(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    caller = identity.current.get()
    if caller is not None:
        event.setdefault("tenant", caller.tenant)
    return event


def _add_service(service: str) -> structlog.typing.Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add
