"""What servers say when they fail, as this program's errors.

Three shapes of a body are met: {"error": {"message", "type", "param", "code"}} (OpenAI, vLLM), {"object": "error",
"message", …} (older vLLM, trtllm-serve), {"error": "text"} (proxies, and vLLM without its key).
"""

import email.utils
import json
import time
from dataclasses import dataclass
from typing import Any

import httpx2

from generator.engines.base import RemoteRequest
from generator.engines.words import blamed_form, blames_length, words_of
from mesh.errors import FailedPrecondition, InvalidInput, MurpheyError, Overloaded, Unavailable

_LONGEST_RETRY_S = 300.0
_FIELDS = {
    "max_completion_tokens": "max_tokens", "max_tokens": "max_tokens", "min_tokens": "min_tokens", "top_p": "top_p",
    "temperature": "temperature", "top_k": "top_k", "min_p": "min_p", "repetition_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty", "frequency_penalty": "frequency_penalty", "seed": "seed", "stop": "stop",
    "stop_token_ids": "stop_token_ids",
}  # fmt: skip
"""What a server calls a field, and we."""


@dataclass(frozen=True)
class Said:
    """A server's own words. `code` is an HTTP status, 0 where it tells none."""

    message: str
    param: str
    code: int


def said_in(body: Any) -> Said | None:
    """What an error object says; None when it is none."""
    if not isinstance(body, dict):
        return None
    error = body.get("error", body if body.get("object") == "error" else None)
    if error is None:
        return None
    if not isinstance(error, dict):
        return Said(str(error), "", 0)
    code = error.get("code")
    known = isinstance(code, int) or (isinstance(code, str) and code.isdecimal())
    return Said(str(error.get("message") or ""), str(error.get("param") or ""), int(code) if known and code else 0)


def refusal(response: httpx2.Response, body: bytes, server: str, request: RemoteRequest) -> MurpheyError:
    """Of an answer that is no 200."""
    try:
        said = said_in(json.loads(body))
    except ValueError:  # a proxy's page
        said = None
    said = said or Said("", "", 0)
    return error_of(
        Said(said.message, said.param, response.status_code), server, request, _retry_after_s(response.headers)
    )


def error_of(said: Said, server: str, request: RemoteRequest, retry_after_s: float | None = None) -> MurpheyError:
    """By the status: who is at fault, and whether trying again helps."""
    words = words_of(said.message, request)
    if said.code == 429:
        return Overloaded(f"The server {server} is full{words}. Try again later.", retry_after_s=retry_after_s or 1.0)
    if said.code in (400, 413, 422):
        return _invalid(said, words, server, request)
    if said.code in (401, 403):
        message = f"The server {server} refuses the generator's key{words}. Set api_key in the generator's settings."
        return FailedPrecondition(message)
    if said.code in (404, 405, 501) or 300 <= said.code < 400:
        message = f"The server {server} does not serve what the generator asks it for{words}. Check urls and model."
        return FailedPrecondition(message)
    status = f" with status {said.code}" if said.code else ""
    return Unavailable(f"The server {server} failed{status}{words}. Try again.", retry_after_s=retry_after_s or 1.0)


def lost(error: httpx2.HTTPError, server: str) -> Unavailable:
    """Of a connection that could not be made or did not hold."""
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return Unavailable(f"The server {server} cannot be reached ({type(error).__name__}). Is it running?")
    if isinstance(error, httpx2.TimeoutException):
        return Unavailable(f"The server {server} said nothing for too long ({type(error).__name__}). Try again.")
    return Unavailable(f"The connection to the server {server} broke ({type(error).__name__}). Try again.")


def _invalid(said: Said, words: str, server: str, request: RemoteRequest) -> InvalidInput:
    if said.param in _FIELDS and said.param != "max_tokens":
        field = f"sampling.{_FIELDS[said.param]}"
    elif form := blamed_form(said.message, request):
        field = form
    elif said.param in ("messages", "prompt", "max_tokens", "input_tokens") or blames_length(said.message):
        field = "prompt"
    else:
        return InvalidInput(f"The server {server} refuses the request{words}.")
    return InvalidInput(f"{field} is refused by the server {server}{words}.", field=field)


def _retry_after_s(headers: httpx2.Headers) -> float | None:
    """Retry-After, in seconds or as a date."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.1), _LONGEST_RETRY_S) if seconds == seconds else None
