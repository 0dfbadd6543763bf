"""SmolLM2 inside Triton's Python backend: one engine a process, stepped in a thread of its own, and a log of what it did.

Runs in the environment of bench/peers-triton.txt (numpy < 2, which the backend needs). The log is JSON lines, one file a
model: what a test can see of the inside. Used by the models beside this file, which each speak one contract of a real one.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
import json
import threading
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai as genai
import triton_python_backend_utils as pb
from tokenizers import Tokenizer

FINAL = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL
_FINISH = {genai.GenerationFinishReason.STOP: "stop", genai.GenerationFinishReason.LENGTH: "length"}
_KV_BLOCKS, _BATCH_TOKENS = 600, 256


class Run:
    """One completion: what came so far, and whom to tell. `leaves` says whether the caller has gone."""

    def __init__(self, id_, prompt, config, told, leaves):
        self.id, self.prompt, self.config, self.told, self.leaves = id_, prompt, config, told, leaves
        self.ids, self.finish, self.handle = [], None, None
        self.stopped_at = None  # so many tokens it had when it was told to stop


class Engine:
    """Decodes many requests at once. `told(run, new_ids)` is called after each step that brought a request something."""

    def __init__(self, parameters, name):
        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks, scheduler.max_num_batched_tokens = _KV_BLOCKS, _BATCH_TOKENS
        scheduler.dynamic_split_fuse = True
        self._pipeline = genai.ContinuousBatchingPipeline(Path(parameters["gguf"]), scheduler, "CPU", {}, {})
        self._ends = set(json.loads(parameters["ends"]))
        self._log = Log(parameters, name)
        self._news = threading.Condition()
        self._runs, self._waiting, self._number = {}, [], 0
        threading.Thread(target=self._work, daemon=True).start()

    def config(self, max_tokens, temperature=0.0, **more):
        """The engine's own form of sampling parameters; those that are None are left out."""
        config = genai.GenerationConfig()
        config.max_new_tokens, config.stop_token_ids = max_tokens, self._ends
        config.do_sample = bool(temperature)
        for key, value in {"temperature": temperature or None, **more}.items():
            if value is not None:
                setattr(config, key, value)
        return config

    def add(self, run):
        """Takes a request up at the next step."""
        with self._news:
            self._waiting.append(run)
            self._news.notify()

    def stop(self, id_):
        """Ends the request of that id, as its caller wishes; False when there is none."""
        with self._news:
            found = [run for run in [*self._runs.values(), *self._waiting] if run.id == id_]
            for run in found:
                run.stopped_at = len(run.ids)
        return bool(found)

    def _work(self):
        while True:
            with self._news:
                while not (self._runs or self._waiting):
                    self._news.wait()
                self._take_up()
            self._drop_left()
            if self._runs:
                self._pipeline.step()
                self._read()

    def _take_up(self):
        for run in self._waiting:
            self._number += 1
            tensor = ov.Tensor(np.asarray([run.prompt], dtype=np.int64))
            run.handle = self._pipeline.add_request(self._number, tensor, run.config)
            self._runs[self._number] = run
            self._log.say(event="begin", id=run.id, prompt=run.prompt)
        self._waiting.clear()

    def _drop_left(self):
        for number, run in list(self._runs.items()):
            if run.stopped_at is None and run.leaves():
                run.stopped_at = len(run.ids)
            if run.stopped_at is not None:
                run.handle.cancel()
                del self._runs[number]
                late = len(run.ids) - run.stopped_at
                self._log.say(event="cancelled", id=run.id, tokens=len(run.ids), late=late, running=len(self._runs))
                run.finish = "cancelled"
                run.told(run, [])

    def _read(self):
        for number, run in list(self._runs.items()):
            new = []
            while run.handle.can_read():
                for output in run.handle.read().values():
                    new += output.generated_ids
                    run.finish = _FINISH.get(output.finish_reason)
            run.ids += new
            if run.finish is not None:
                del self._runs[number]
                self._log.say(event="end", id=run.id, ids=run.ids, finish=run.finish, running=len(self._runs))
            if new or run.finish:
                run.told(run, new)


class Log:
    """Lines of JSON in `MODEL.jsonl`, each written at once."""

    def __init__(self, parameters, name):
        self._file = (Path(parameters["log"]) / f"{name}.jsonl").open("a", buffering=1)

    def say(self, **what):
        """One line."""
        self._file.write(json.dumps(what) + "\n")


class Texts:
    """The text of one completion as far as it is whole: half a character waits for its rest."""

    def __init__(self, tokenizer):
        self._tokenizer, self.ids, self.text = tokenizer, [], ""

    def grown(self, new, last):
        """All the text after `new` ids."""
        self.ids += new
        text = self._tokenizer.decode(self.ids, skip_special_tokens=True)
        if last or not text.endswith("\N{REPLACEMENT CHARACTER}"):
            self.text = text
        return self.text


def parameters_of(args):
    """The parameters of config.pbtxt."""
    return {name: one["string_value"] for name, one in json.loads(args["model_config"])["parameters"].items()}


def tokenizer_of(parameters):
    """The model's own."""
    return Tokenizer.from_file(parameters["tokenizer"])


def value(request, name, default=None):
    """The first element of an input, whatever its shape; text as str."""
    tensor = pb.get_input_tensor_by_name(request, name)
    if tensor is None:
        return default
    found = tensor.as_numpy().reshape(-1)[0]
    return found.decode() if isinstance(found, bytes) else found.item() if hasattr(found, "item") else found


def texts(name, values):
    """An output of strings."""
    return pb.Tensor(name, np.asarray([one.encode() for one in values], dtype=np.object_))


def failed(message, code=None):
    """An error response."""
    error = pb.TritonError(message, code) if code is not None else pb.TritonError(message)
    return pb.InferenceResponse(output_tensors=[], error=error)
