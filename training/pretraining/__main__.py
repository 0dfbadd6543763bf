"""One process of a pretraining run, as torchrun starts it: `torchrun … -m training.pretraining RUN.toml OUT [name=value …]`."""

import os
import sys
from pathlib import Path

from mesh import terminal
from mesh.errors import MurpheyError
from training.pretraining.progress import shown
from training.pretraining.settings import read_settings


def main(arguments: list[str]) -> int:
    """Exit status 1 for what the first process says is wrong."""
    try:
        shown(read_settings(Path(arguments[0]), arguments[2:]), Path(arguments[1]))
    except MurpheyError as error:
        if os.environ.get("RANK", "0") == "0":
            terminal.console.print(f"error: {error.message}", markup=False, soft_wrap=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
