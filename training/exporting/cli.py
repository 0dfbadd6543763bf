"""`murphey train export`."""

from pathlib import Path
from typing import Annotated, cast

import typer

from mesh import terminal, threads
from mesh.errors import InvalidInput
from mesh.settings import default_models_folder
from mesh.terminal import JsonOption


def register(group: typer.Typer) -> None:
    """Adds the command to `murphey train`."""
    group.command("export")(export_command)


def export_command(
    model: Annotated[Path, typer.Argument(help="A checkpoint, or a folder in Hugging Face's form.")],
    name: Annotated[str, typer.Option(help="The model's name; each export is its next version.")],
    tokenizer: Annotated[Path | None, typer.Option(help="The tokenizer's folder, where the model's has none.")] = None,
    openvino: Annotated[list[str] | None, typer.Option(help="int8, int4: also as OpenVINO IR.")] = None,
    dtype: Annotated[str, typer.Option(help="Of the Hugging Face form: bfloat16, float16, float32.")] = "bfloat16",
    folder: Annotated[
        Path | None, typer.Option("--models", envvar="MURPHEY_MODELS", help="Where models are kept.")
    ] = None,
    triton: Annotated[
        bool, typer.Option(help="Also a Triton repository (TensorRT-LLM's llmapi) that serves the Hugging Face form.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a model in the forms that engines load, and register it: the generator then loads it by its name."""
    threads.limit()
    from training.exporting.gguf import Bits
    from training.exporting.huggingface import DType
    from training.exporting.openvino import BITS
    from training.exporting.registry import export
    from training.surroundings import environment

    if unknown := set(openvino or ()) - set(BITS):
        raise InvalidInput(f"--openvino is {min(unknown)}; it can be {', '.join(BITS)}.")
    if dtype not in ("bfloat16", "float16", "float32"):
        raise InvalidInput(f"--dtype is {dtype}; it can be bfloat16, float16 or float32.")
    done = export(
        model, tokenizer, name, folder or default_models_folder(), cast(list[Bits], openvino or []), cast(DType, dtype),
        {"environment": environment()}, triton,
    )  # fmt: skip
    if as_json:
        terminal.print_json({"model": f"{done.name}@{done.version}", "folder": str(done.folder), "forms": done.forms})
    else:
        terminal.out.print(f"{done.name}@{done.version}: {', '.join(done.forms)} in {done.folder}")
