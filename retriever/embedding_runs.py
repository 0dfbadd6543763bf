"""What is counted of each run of an embedder."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from mesh.metrics import counter, histogram
from retriever.embedding import Purpose

_begun = counter("embed_begun_texts", "Texts whose embedding was begun.", ("purpose",))
_embedded = counter("embedded_texts", "Texts that were embedded.", ("purpose",))
_run_time = histogram("embed_batch_seconds", "Time of one run of the embedder.", ("purpose",))


@contextmanager
def counted(purpose: Purpose, texts: int) -> Iterator[None]:
    """A run over so many texts."""
    started_s = time.perf_counter()
    _begun.labels(purpose.value).inc(texts)
    try:
        yield
        _embedded.labels(purpose.value).inc(texts)
    finally:
        _run_time.labels(purpose.value).observe(time.perf_counter() - started_s)
