"""A process whose networks have come and gone takes signals as before."""

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, threading
import numpy, openvino
from retriever.embedders.openvino import compiled

def network():
    read = openvino.opset13.parameter([1], numpy.float32)
    return compiled(openvino.Model([openvino.opset13.relu(read)], [read]), 1, "f32", "LATENCY", 1)

signal.signal(signal.SIGTERM, lambda *_: print("told to stop", flush=True))
networks = [network(), network()]
if sys.argv[1] == "in order":
    networks.pop(0)
    networks.pop(0)
else:
    leaving = threading.Thread(target=networks.clear)
    leaving.start()
    leaving.join()
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("how", ["in order", "in another thread"])
def test_a_signal_comes_after_networks_are_gone(how: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=False, timeout=120, env=environment
    )
    assert (done.returncode, done.stdout) == (0, "told to stop\n"), done.stderr or signal.Signals(-done.returncode).name
