"""`murphey train`: the group to which every part of this room adds its commands.

A part's `cli.py` imports what needs the extra `training` only within its commands, so that `murphey --help` and all other
commands work, and start as fast, where the extra is not installed.
"""

import importlib

import typer

PARTS: tuple[str, ...] = (
    "training.collect.cli",
    "training.prepare.cli",
    "training.tokenizer.cli",
    "training.pretraining.cli",
    "training.finetuning.cli",
    "training.exporting.cli",
    "training.evaluating.cli",
    "training.retrieval.cli",
    "training.runs.cli",
)
"""Modules with a function `register(group)`."""


def register(root: typer.Typer) -> None:
    """Adds the group `train`."""
    group = typer.Typer(help="Make a model: from raw text to what the generator loads.", no_args_is_help=True)
    for part in PARTS:
        importlib.import_module(part).register(group)
    root.add_typer(group, name="train")
