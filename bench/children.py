"""Programs that are measured in a process of their own and print one JSON line: peers and ceilings."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any


class ChildFailed(RuntimeError):
    """A program ended with an error; the message holds the end of what it said."""


def run_json(
    command: Sequence[str], options: Mapping[str, object], environment: Mapping[str, str], timeout_s: float = 3600
) -> dict[str, Any]:
    """Runs `command --key=value …` and returns what the last line of its output says."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    try:
        done = subprocess.run(
            [*command, *flags], env=dict(environment), capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ChildFailed(f"{' '.join(command[-2:])} did not end within {timeout_s:g} s.") from error
    if done.returncode != 0:
        raise ChildFailed(f"{' '.join(command[-2:])} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError) as error:
        said = f"{done.stdout[-500:]}{done.stderr[-1500:]}"
        raise ChildFailed(f"{' '.join(command[-2:])} printed no result:\n{said}") from error


def module(name: str) -> list[str]:
    """The command that runs a module of ours by this interpreter."""
    return [sys.executable, "-m", name]
