"""What every benchmark can be told."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """`runs` figures for each row; `quick` is a small workload that only shows that the benchmark works."""

    runs: int = 3
    quick: bool = False
