"""Ceilings: the parts that do the work, driven directly in a process of their own. What the mesh cannot be faster than."""

import os

from bench.children import module, run_json
from mesh import threads


def run(name: str, **options: object) -> dict[str, list[float]]:
    """Runs `bench.ceilings.{name}` with the thread settings that the services have."""
    environment = dict(os.environ)
    threads.limit(environment)
    return run_json(module(f"bench.ceilings.{name}"), options, environment)
