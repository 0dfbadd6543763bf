"""What every benchmark can be told."""

from dataclasses import dataclass

from murphey.retriever.v1.cache_pb2 import CacheControl

AFRESH = CacheControl(no_cache=True, no_store=True)
"""What is measured is done, and not remembered."""


@dataclass(frozen=True)
class Options:
    """`runs` figures for each row; `quick` is a small workload that only shows that the benchmark works."""

    runs: int = 3
    quick: bool = False
