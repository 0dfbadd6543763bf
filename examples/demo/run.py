"""`make demo`: a mesh on this machine, seven documents in it, three questions to it, and every citation checked.

It does what a user does, by the `murphey` command alone, on a data folder and ports of its own. It exits 0 only if both
questions that the documents answer were answered with citations that stand in the documents, the third was declined, and
no process is left.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

MURPHEY = Path(sys.executable).with_name("murphey")
DOCUMENTS = Path(__file__).with_name("documents")
STOPS_WITHIN_S = 60
PORTS = 20
"""A mesh uses fewer ports than this from its base on."""


@dataclass(frozen=True)
class Question:
    """A question, and what a right answer shows: the document and page that it cites, and words of answer and quote."""

    text: str
    document: str | None = None
    page: int = 0
    words: str = ""


QUESTIONS = (
    Question("How often are the shutter chains greased?", "dome-manual.pdf", 2, "six weeks"),
    Question("What does admission to a public night cost for adults?", "visiting.md", 0, "7 euros"),
    Question("What is the wifi password?"),
)


class DemoFailed(Exception):
    """Something was not as it must be."""


def main() -> None:
    """Runs the demo and says how it went."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started_s = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="murphey-demo-") as folder, running_mesh(Path(folder)):
            ingest(Path(folder))
            for question in QUESTIONS:
                ask(Path(folder), question)
    except DemoFailed as failure:
        sys.exit(f"\ndemo failed: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"\nDone in {time.monotonic() - started_s:.1f} s. The mesh is stopped and its data folder removed.")
    print("To keep one running: `make up`, then `murphey ingest PATH…` and `murphey ask` in another terminal.")


@contextmanager
def running_mesh(data: Path) -> Iterator[None]:
    """`murphey up` while inside; afterwards none of its processes is left."""
    command = ("up", "--data", str(data), "--port-base", str(free_port_base()), "--json")
    heading("murphey up")
    # In a session of its own, so that Ctrl-C reaches this program alone, which then stops the mesh.
    process = subprocess.Popen([MURPHEY, *command], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        until_ready(process)
        yield
    finally:
        stop(process)


def until_ready(process: subprocess.Popen[str]) -> None:
    """Shows each service as it becomes healthy, until the mesh says that it is ready."""
    started_s = time.monotonic()
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "ready":
            print(f"  ready after {time.monotonic() - started_s:.1f} s at {event['http']}")
            return
        print(f"  {time.monotonic() - started_s:5.1f} s  {event['service']:<13} {event['event']}", flush=True)
    raise DemoFailed("the mesh did not start; what it said is above")


def stop(process: subprocess.Popen[str]) -> None:
    """Ctrl-C for the mesh. DemoFailed when a process of it outlives it."""
    if process.poll() is not None:
        return
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOPS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=5)
    for straggler in alive:
        straggler.kill()
    if alive:
        raise DemoFailed(f"{len(alive)} processes of the mesh outlived it and were killed")


def ingest(data: Path) -> None:
    """Takes the folder in; every file must be indexed."""
    heading("murphey ingest examples/demo/documents")
    started_s = time.monotonic()
    lines = [json.loads(line) for line in murphey(data, "ingest", str(DOCUMENTS), "--json").splitlines()]
    for line in lines:
        print(f"  {line['status']:<8} {line['document']:<24} {line['chunks']} chunk{'s' * (line['chunks'] != 1)}")
    expected = {path.name for path in DOCUMENTS.iterdir()}
    indexed = {line["document"] for line in lines if line["status"] == "indexed"}
    if indexed != expected:
        raise DemoFailed(f"not indexed: {', '.join(sorted(expected - indexed))}")
    print(f"  {sum(line['chunks'] for line in lines)} chunks of {len(lines)} documents", end="")
    print(f" in {time.monotonic() - started_s:.1f} s")


def ask(data: Path, question: Question) -> None:
    """Asks as a person does, words streaming in; then as a program does, to check what was cited."""
    heading(f'murphey ask "{question.text}"')
    started_s = time.monotonic()
    subprocess.run([MURPHEY, "ask", question.text, "--data", data], check=True)
    print(f"  ({time.monotonic() - started_s:.1f} s, the start of the command included)")
    answer = json.loads(murphey(data, "ask", question.text, "--json"))
    if question.document is None:
        check_declined(answer)
    else:
        check_answered(data, question, answer)


def check_declined(answer: dict[str, Any]) -> None:
    """No answer, no citation."""
    if answer["outcome"] != "declined" or answer["citations"]:
        raise DemoFailed(f"the documents cannot answer this, yet it was answered: {answer['answer']!r}")
    print("  checked: declined, nothing cited")


def check_answered(data: Path, question: Question, answer: dict[str, Any]) -> None:
    """Every quote stands where its citation says, and one of them is the sentence that holds the answer."""
    citations = answer["citations"]
    if answer["outcome"] != "answered" or not citations:
        raise DemoFailed(f"no cited answer: {answer['answer']!r}")
    if question.words not in answer["answer"]:
        raise DemoFailed(f"{question.words!r} is not in the answer: {answer['answer']!r}")
    for citation in citations:
        check_citation(data, citation)
    if not any(rests_on(citation, question) for citation in citations):
        raise DemoFailed(f"no citation is of {question.document} and holds {question.words!r}")


def check_citation(data: Path, citation: dict[str, Any]) -> None:
    """Reads the document's own text at the cited span: the words and the page must be those of the citation."""
    document, start, end = citation["document"], citation["start"], citation["end"]
    span = ("--start", str(start), "--end", str(end))
    there = json.loads(murphey(data, "documents", "text", document, *span, "--json"))
    place = f"{document}, page {citation['page']}" if citation["page"] else document
    if there["text"] != citation["quote"]:
        raise DemoFailed(f"{place} does not say {citation['quote']!r} at {start}:{end}, but {there['text']!r}")
    if there["page"] != citation["page"]:
        raise DemoFailed(f"[{citation['marker']}] names {place}, but the words stand on page {there['page']}")
    print(f"  checked: {place}, characters {start} to {end}, says what [{citation['marker']}] quotes")


def rests_on(citation: dict[str, Any], question: Question) -> bool:
    """Whether a citation is of the right document and page and its quote holds the answer."""
    right_place = (citation["document"], citation["page"] or 0) == (question.document, question.page)
    return right_place and question.words in citation["quote"]


def murphey(data: Path, *arguments: str) -> str:
    """Runs a client command; returns what it wrote to standard output."""
    done = subprocess.run([MURPHEY, *arguments, "--data", str(data)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise DemoFailed(f"`murphey {' '.join(arguments)}` ended with exit code {done.returncode}")
    return done.stdout


def heading(text: str) -> None:
    """Sets a step off from the one before."""
    print(f"\n$ {text}", flush=True)


def free_port_base() -> int:
    """The first port of a free block; different processes begin to look at different places."""
    for base in range(20_000 + os.getpid() % 1000 * PORTS, 60_000, PORTS):
        if all(is_free(port) for port in range(base, base + PORTS)):
            return base
    raise DemoFailed("no free block of ports was found")


def is_free(port: int) -> bool:
    """Whether nothing listens there."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


if __name__ == "__main__":
    main()
