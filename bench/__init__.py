"""Benchmarks: each runs alone, as the median of several runs, beside its peer or its ceiling in the same run."""
