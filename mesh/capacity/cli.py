"""`murphey plan`: nodes, memory, disks, GPUs and cost of a mesh that does not exist yet, with formulas and sources."""

from dataclasses import asdict
from typing import Annotated

import typer

from mesh import terminal
from mesh.capacity.constants import Constant
from mesh.capacity.sizing import Demand, Nodes, Step, plan, sources
from mesh.errors import InvalidInput

_HEADLINES = (
    "vector nodes",
    "service nodes",
    "GPUs",
    "memory",
    "disk",
    "object store",
    "cost",
    "cost of 1,000 questions",
)


def register(root: typer.Typer) -> None:
    """Adds the command."""
    root.command(name="plan")(show_plan)


def show_plan(
    chunks: Annotated[float, typer.Option(help="Chunks to be searched, such as 1e9.")],
    qps: Annotated[float, typer.Option(help="Questions a second.")],
    dims: Annotated[int, typer.Option(help="Dimensions of the embedder.")] = Demand.dims,
    model: Annotated[str | None, typer.Option(help="llama-8b, llama-70b or llama-405b; search alone without.")] = None,
    gpu: Annotated[str, typer.Option(help="h100 or h200.")] = Demand.gpu,
    quantization: Annotated[str, typer.Option(help="Of the vectors: none, scalar or binary.")] = Demand.quantization,
    on_disk: Annotated[bool, typer.Option("--on-disk", help="Keep original vectors on disk only.")] = False,
    search: Annotated[str, typer.Option(help="hybrid, or dense: without search by words.")] = Demand.search,
    replicas: Annotated[int, typer.Option(help="Copies of every vector.")] = Demand.replicas,
    prompt_tokens: Annotated[int, typer.Option(help="Tokens of a prompt.")] = Demand.prompt_tokens,
    completion_tokens: Annotated[int, typer.Option(help="Tokens of an answer.")] = Demand.completion_tokens,
    text_bytes: Annotated[float, typer.Option(help="Text of a chunk.")] = Demand.text_bytes,
    ingest_days: Annotated[float, typer.Option(help="Days that the first ingest may take.")] = Demand.ingest_days,
    node_gb: Annotated[float, typer.Option(help="Memory of a vector node.")] = Nodes.gb,
    node_vcpus: Annotated[float, typer.Option(help="Cores of a node.")] = Nodes.vcpus,
    node_usd_h: Annotated[float, typer.Option(help="Price of a vector node.")] = Nodes.usd_h,
    service_node_usd_h: Annotated[float, typer.Option(help="Price of a service node.")] = Nodes.service_usd_h,
    gpu_usd_h: Annotated[float | None, typer.Option(help="Price of a GPU; a list price without.")] = None,
    disk_usd_gb: Annotated[float, typer.Option(help="Price of a GB of SSD a month.")] = Nodes.disk_usd_gb,
    as_json: terminal.JsonOption = False,
) -> None:
    """Estimate nodes, memory, disks, GPUs and cost, from measured unit costs and published figures of engines."""
    demand = Demand(
        chunks, qps, dims, model, gpu,
        quantization,  # pyright: ignore[reportArgumentType] - plan() checks it, and the next but one
        on_disk,
        search,  # pyright: ignore[reportArgumentType]
        replicas, prompt_tokens, completion_tokens, text_bytes, ingest_days,
    )  # fmt: skip
    nodes = Nodes(node_gb, node_vcpus, node_usd_h, service_node_usd_h, disk_usd_gb, gpu_usd_h)
    try:
        steps = plan(demand, nodes)
    except InvalidInput as error:
        terminal.fail(error.message, code=2)
    if as_json:
        terminal.print_json(
            {
                "demand": asdict(demand),
                "steps": [asdict(step) for step in steps.values()],
                "constants": [asdict(constant) for constant in sources(demand)],
            }
        )
    else:
        _print(steps, sources(demand))


def _print(steps: dict[str, Step], constants: list[Constant]) -> None:
    rows = [(name, _amount(steps[name].amount), steps[name].unit) for name in _HEADLINES if name in steps]
    terminal.print_table(("needed", "amount", "unit"), rows)
    terminal.out.print("\nHow it is counted")
    for step in steps.values():
        terminal.out.print(f"  {step.name} = {_amount(step.amount)} {step.unit}\n    = {step.formula}", markup=False)
    terminal.out.print("\nCounted with")
    table = [(each.name, f"{each.value:,.8g}", each.unit, each.source) for each in constants]
    terminal.print_table(("constant", "value", "unit", "source"), table)
    terminal.out.print("\nAn estimate on paper: measure with your own documents before you order.")


def _amount(value: float) -> str:
    """Whole where it is large, three digits where it is small."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
