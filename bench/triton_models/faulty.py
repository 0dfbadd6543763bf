"""A model that misbehaves as its prompt says, by the contract of the vLLM backend (delta) or of llmapi (whole text)."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
import os
import threading

import numpy as np
import smol
import triton_python_backend_utils as pb

SAID = "grö\N{LATIN SMALL LETTER SHARP S}e \N{ROCKET} ok"


class TritonPythonModel:
    """See the module."""

    def initialize(self, args):
        parameters = smol.parameters_of(args)
        self._whole = parameters["whole"] == "true"
        self._log = smol.Log(parameters, args["model_name"])

    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            self._log.say(event="begin")
            behave = getattr(self, f"_{smol.value(request, 'text_input')}")
            threading.Thread(target=behave, args=(sender,), daemon=True).start()

    def _send(self, sender, raw, final=False, reason=None):
        tensors = [pb.Tensor("text_output", np.asarray([raw], dtype=np.object_))]
        tensors += [smol.texts("finish_reason", [reason])] if reason else []
        sender.send(pb.InferenceResponse(tensors), flags=smol.FINAL if final else 0)

    def _split(self, sender):
        """Every byte in a response of its own."""
        raw = SAID.encode()
        for at in range(len(raw)):
            self._send(sender, raw[: at + 1] if self._whole else raw[at : at + 1])
        sender.send(flags=smol.FINAL)

    def _late(self, sender):
        """The final flag long after the text, in a response without any."""
        self._send(sender, b"late")
        threading.Timer(0.5, lambda: sender.send(flags=smol.FINAL)).start()

    def _unmarked(self, sender):
        """A reason of the end, and never a final flag."""
        self._send(sender, b"unmarked", reason="length")

    def _error(self, sender):
        """After some text."""
        self._send(sender, b"half")
        sender.send(smol.failed("Error generating request: the engine is gone"), flags=smol.FINAL)

    def _refused(self, sender):
        """Before any text, as the model's error response with a text that is none."""
        tensor = smol.texts("text_output", ["N/A"])
        sender.send(pb.InferenceResponse([tensor], pb.TritonError("Error: the prompt is too long")), flags=smol.FINAL)

    def _disorder(self, sender):
        """Whole texts that overtake each other."""
        for piece in (b"one", b"one two three", b"one two", b"one two three four"):
            self._send(sender, piece)
        sender.send(flags=smol.FINAL)

    def _back(self, sender):
        """Takes back what it said."""
        self._send(sender, b"one two")
        self._send(sender, b"other words", final=True)

    def _timeout(self, sender):
        """Ends for a reason that is none of ours."""
        self._send(sender, b"half", final=True, reason="timeout")

    def _silent(self, sender):
        """Says something and then nothing, until its caller has gone."""
        self._send(sender, b"half")
        while not sender.is_cancelled():
            threading.Event().wait(0.01)
        self._log.say(event="cancelled")
        sender.send(flags=smol.FINAL)

    def _dying(self, sender):
        """In the middle of a completion."""
        self._send(sender, b"half")
        os._exit(9)
