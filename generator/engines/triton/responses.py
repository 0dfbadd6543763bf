"""Reads the responses of one completion: text, usage and the end, in every mode that the contracts have.

The end is the response that Triton marks as final, with or without text, or the one that tells a reason: some releases of
the llmapi model mark none. A stream that ends otherwise was cut off, whatever came before.
"""

import codecs

from generator.engines.base import RemoteText
from generator.engines.triton.contracts import Contract, Kind
from generator.engines.triton.tensors import first_values
from generator.requests import FinishReason, Usage
from mesh.errors import Unavailable
from murphey.triton import inference_pb2 as pb

_FINAL = "triton_final_response"
_HALF_CHARACTER = "\N{REPLACEMENT CHARACTER}".encode()
_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_NO_REASON = ("", "None")


class ResponseReader:
    """One completion. Once it is `over`, `finish` and `usage` tell how; `finish` is None where the server does not."""

    def __init__(self, contract: Contract, server: str) -> None:
        self._contract, self._server = contract, server
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._given = self._latest = b""
        self._steps = self._told_tokens = self._prompt_tokens = self._unreported = 0
        self.final = False
        self.finish: FinishReason | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more is to come."""
        return self.final or self.finish is not None

    @property
    def counted(self) -> bool:
        """Whether the server told the usage."""
        return self._prompt_tokens > 0

    @property
    def usage(self) -> Usage:
        """As told, or else with a token for each response that brought text."""
        return Usage(self._prompt_tokens, 0, self._told_tokens if self.counted else self._steps)

    def read(self, response: pb.ModelInferResponse) -> RemoteText | None:
        """The new text of a response, if it brings any. Unavailable when it makes no sense."""
        if _FINAL in response.parameters:
            self.final = self.final or response.parameters[_FINAL].bool_param
        values = first_values(response)
        reason = values.get("finish_reason", b"")
        if isinstance(reason, bytes) and (name := reason.decode(errors="replace")) not in _NO_REASON:
            self.finish = self._reason(name)
        piece = values.get("text_output")
        if isinstance(piece, bytes):
            self._count(values)
            return self._text(piece)
        return self._text(None) if self.over else None

    def _count(self, values: dict[str, bytes | int]) -> None:
        self._steps += 1
        prompt, completion = values.get("num_input_tokens"), values.get("num_output_tokens")
        if self._contract.kind is Kind.VLLM and isinstance(prompt, int) and isinstance(completion, int):
            self._prompt_tokens = prompt
            self._told_tokens += completion
            self._unreported += completion
        else:
            self._unreported += 1

    def _text(self, piece: bytes | None) -> RemoteText | None:
        if self._contract.cumulative:
            piece = self._grown(self._latest if piece is None else piece)
        text = self._decoder.decode(piece or b"", self.over)
        if not text:
            return None
        tokens, self._unreported = self._unreported, 0
        return RemoteText(text, tokens)

    def _grown(self, whole: bytes) -> bytes:
        """What is new in a text that holds all of it so far. Half a character at its end may still change, so it waits."""
        self._latest = whole
        while not self.over and whole.endswith(_HALF_CHARACTER):
            whole = whole[: -len(_HALF_CHARACTER)]
        if not whole.startswith(self._given):
            if self._given.startswith(whole) and not self.over:
                return b""  # an earlier response, overtaken by a later one
            raise Unavailable(f"The server {self._server} took back text that it had sent. Try again.")
        new, self._given = whole[len(self._given) :], whole
        return new

    def _reason(self, reason: str) -> FinishReason:
        if reason not in _REASONS:
            raise Unavailable(f"The server {self._server} ended a completion with {reason[:40]!r}. Try again.")
        return _REASONS[reason]
