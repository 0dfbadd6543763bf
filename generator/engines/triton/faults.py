"""What Triton servers say when they fail, as this program's errors.

Statuses are gRPC's, since streams are asked for them (`triton_grpc_error`); a server before 24.08 sends words only. What
queues refuse comes as UNAVAILABLE, what an engine refuses as INTERNAL, told apart by their words.
"""

import re

import grpc.aio

from generator.engines.base import RemoteRequest
from generator.engines.words import blamed_form, blames_length, words_of
from mesh.errors import FailedPrecondition, InvalidInput, MurpheyError, Overloaded, Unavailable

_FULL = re.compile(r"maximum queue size|request timeout expired", re.IGNORECASE)
_UNKNOWN_MODEL = re.compile(r"unknown model", re.IGNORECASE)
_UNREACHED = re.compile(r"failed to connect|connection refused|dns resolution|name resolution", re.IGNORECASE)
_TRACEBACK = "Traceback (most recent call last)"


def failure(error: grpc.aio.AioRpcError, server: str, request: RemoteRequest) -> MurpheyError:
    """Of a call that ended with a status."""
    return said(error.code(), error.details() or "", server, request)


def said(code: grpc.StatusCode | None, message: str, server: str, request: RemoteRequest) -> MurpheyError:
    """By who is at fault, and whether trying again helps. `code` is None where the server tells words only."""
    words = words_of(_last_line(message), request)
    status = grpc.StatusCode
    if code is status.RESOURCE_EXHAUSTED or _FULL.search(message):
        return Overloaded(f"The server {server} is full{words}. Try again later.")
    if code in (status.UNAUTHENTICATED, status.PERMISSION_DENIED):
        return FailedPrecondition(
            f"The server {server} refuses the generator's key{words}. Set api_key in its settings."
        )
    if code in (status.NOT_FOUND, status.UNIMPLEMENTED) or (code is None and _UNKNOWN_MODEL.search(message)):
        return FailedPrecondition(
            f"The server {server} does not serve what the generator asks it for{words}. Check urls and model."
        )
    if form := blamed_form(message, request):
        return InvalidInput(f"{form} is refused by the server {server}{words}.", field=form)
    if blames_length(message):
        return InvalidInput(f"prompt is refused by the server {server}{words}.", field="prompt")
    if code is status.INVALID_ARGUMENT:
        return InvalidInput(f"The server {server} refuses the request{words}.")
    if code is status.UNAVAILABLE and _UNREACHED.search(message):
        return Unavailable(f"The server {server} cannot be reached. Is it running?")
    if code is status.DEADLINE_EXCEEDED:
        return Unavailable(f"The server {server} said nothing for too long. Try again.")
    named = f" with status {code.name}" if code is not None else ""
    return Unavailable(f"The server {server} failed{named}{words}. Try again.")


def _last_line(message: str) -> str:
    """The BLS model answers with a Python traceback, whose last line says what happened."""
    if _TRACEBACK not in message:
        return message
    return message.strip().splitlines()[-1]
