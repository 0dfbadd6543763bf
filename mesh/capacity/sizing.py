"""How much a mesh of a given size needs: memory, disks, nodes, GPUs and money, each as a step that shows its formula.

Arithmetic only: unit costs are in constants.py, throughput of models in engines.py. The steps are for people who check
them; what they add up to is an estimate before the first measurement of one's own.
"""

import math
from dataclasses import dataclass
from typing import Literal

from mesh.capacity import constants as unit
from mesh.capacity.engines import GPUS, MODELS, REPLICAS, SOURCE, Replica
from mesh.errors import InvalidInput

Quantization = Literal["none", "scalar", "binary"]
Search = Literal["hybrid", "dense"]
_VECTOR_BYTES = {"none": unit.FLOAT_BYTES, "scalar": unit.SCALAR_BYTES, "binary": unit.BINARY_BYTES}
_LIMITS = {"chunks": 1e13, "dims": 65_536, "qps": 1e7, "replicas": 100, "prompt_tokens": 1e6, "completion_tokens": 1e6}
"""Beyond these a plan says nothing."""


@dataclass(frozen=True)
class Demand:
    """What the mesh is to carry. A question is one search and, where there is a model, one answer.

    `replicas` are copies of every vector. `prompt_tokens` and `completion_tokens` are those of an answer.
    """

    chunks: float
    qps: float
    dims: int = 384
    model: str | None = None
    gpu: str = "h100"
    quantization: Quantization = "none"
    on_disk: bool = False
    search: Search = "hybrid"
    replicas: int = 2
    prompt_tokens: int = 2048
    completion_tokens: int = 128
    text_bytes: float = 700
    ingest_days: float = 7


@dataclass(frozen=True)
class Nodes:
    """The machines and their prices; None takes the list price of the GPU."""

    gb: float = unit.NODE_GB.value
    vcpus: float = unit.NODE_VCPUS.value
    usd_h: float = unit.NODE_USD.value
    service_usd_h: float = unit.SERVICE_NODE_USD.value
    disk_usd_gb: float = unit.DISK_USD.value
    gpu_usd_h: float | None = None


@dataclass(frozen=True)
class Step:
    """One figure of a plan."""

    name: str
    amount: float
    unit: str
    formula: str


def plan(demand: Demand, nodes: Nodes | None = None) -> dict[str, Step]:
    """The steps by name, in the order in which they are counted. InvalidInput names the option that makes no sense."""
    nodes = nodes or Nodes()
    check(demand, nodes)
    steps = _storage(demand) + _cores(demand)
    found = {step.name: step for step in steps}
    found |= {step.name: step for step in _machines(demand, nodes, found)}
    return found | {step.name: step for step in _money(demand, nodes, found)}


def check(demand: Demand, nodes: Nodes) -> None:
    """InvalidInput for a number outside its range, an unknown model, and options that contradict each other."""
    for name, greatest in _LIMITS.items():
        _within(name, getattr(demand, name), 0 if name in ("qps", "completion_tokens") else 1, greatest)
    _within("text_bytes", demand.text_bytes, 1, 1e6)
    _within("ingest_days", demand.ingest_days, 0.01, 3650)
    for name in ("gb", "vcpus"):
        _within(f"node_{name}", getattr(nodes, name), 1, 1e5)
    for name, price in vars(nodes).items():
        if name.endswith(("usd_h", "usd_gb")) and price is not None:
            _within(name, price, 0, 1e6)
    if demand.quantization not in _VECTOR_BYTES:
        raise InvalidInput(
            f"--quantization {demand.quantization} is not known; choose none, scalar or binary.", field="quantization"
        )
    if demand.search not in ("hybrid", "dense"):
        raise InvalidInput(f"--search {demand.search} is not known; choose hybrid or dense.", field="search")
    if demand.on_disk and demand.quantization == "none":
        message = (
            "--on-disk needs --quantization scalar or binary: without a small copy in memory every search reads its vectors "
            "from the disk, of which there are no measured figures."
        )
        raise InvalidInput(message, field="on_disk")
    if demand.model is not None:
        replica_of(demand)
    elif demand.gpu not in GPUS:
        raise InvalidInput(f"--gpu {demand.gpu} is not known; choose {' or '.join(GPUS)}.", field="gpu")


def _within(name: str, value: float, least: float, greatest: float) -> None:
    if not least <= value <= greatest:  # false for NaN too
        option = f"--{name.replace('_', '-')}"
        raise InvalidInput(f"{option} is {value:g}; give a number from {least:g} to {greatest:g}.", field=name)


def replica_of(demand: Demand) -> Replica:
    """What is published of the model on the GPU; InvalidInput when nothing is."""
    found = [replica for replica in REPLICAS if replica.model == demand.model and replica.gpu == demand.gpu]
    if not found:
        message = (
            f"There are no published figures of {demand.model} on {demand.gpu}: --model is one of {', '.join(MODELS)}, --gpu "
            f"one of {', '.join(GPUS)}; leave --model out to plan for search alone."
        )
        raise InvalidInput(message, field="model")
    return found[0]


def _storage(demand: Demand) -> list[Step]:
    """Of all copies, in 10^9 bytes."""
    original = demand.dims * unit.FLOAT_BYTES.value
    searched = demand.dims * _VECTOR_BYTES[demand.quantization].value
    quantized = demand.quantization != "none"
    in_memory = searched + (original if quantized and not demand.on_disk else 0)
    words = unit.WORDS.value if demand.search == "hybrid" else 0
    beside = unit.GRAPH_BYTES.value + words * unit.WORD_BYTES.value
    factor, copies = unit.MEMORY_FACTOR.value, demand.replicas
    memory = demand.chunks * (factor * in_memory + beside) * copies / 1e9
    index = beside + words * unit.STORED_WORD_BYTES.value
    stored = original + (searched if quantized else 0) + index + demand.text_bytes + unit.PAYLOAD_BYTES.value
    disk = demand.chunks * factor * stored * copies / 1e9
    texts = demand.chunks * demand.text_bytes * unit.TEXT_COPIES.value / 1e9
    many = f"{demand.chunks:,.0f} chunks"
    links = f"{unit.GRAPH_BYTES.value:g} B links + {words:g} words × {unit.WORD_BYTES.value:g} B"
    return [
        Step("memory", memory, "GB", f"{many} × ({factor:g} × {in_memory:g} B vectors + {links}) × {copies} copies"),
        Step(
            "disk",
            disk,
            "GB",
            f"{many} × {factor:g} × {stored:g} B of vectors, index, text and fields × {copies} copies",
        ),
        Step("object store", texts, "GB", f"{many} × {demand.text_bytes:g} B of text × {unit.TEXT_COPIES.value:g}"),
    ]


def _cores(demand: Demand) -> list[Step]:
    """Busy cores, and those to have so that they are not always busy."""
    shards = math.ceil(demand.chunks / unit.SHARD_CHUNKS.value)
    dense, words = _search_ms(demand)
    store_ms = shards * _shard_ms(demand, demand.chunks / shards)
    share = unit.CPU_SHARE.value
    service_ms = unit.EMBED_MS.value + unit.SERVER_MS.value + (unit.ANSWER_MS.value if demand.model else 0)
    answer = f" + {unit.ANSWER_MS.value:g} answer" if demand.model else ""
    ingest = demand.chunks / (demand.ingest_days * 86_400) / unit.INGEST_CHUNKS.value
    return [
        Step("shards", shards, "shards", f"{demand.chunks:,.0f} chunks / {unit.SHARD_CHUNKS.value:,.0f} a shard, up"),
        Step(
            "store CPU a search", store_ms, "ms",
            f"{shards} shards × ({dense:g} ms × log n / log {unit.BASE_CHUNKS.value:g} × {demand.dims} dims / "
            f"{unit.BASE_DIMENSIONS.value:g} + {words:g} ms × n / {unit.BASE_CHUNKS.value:g}), "
            f"n = {demand.chunks / shards:,.0f}",
        ),
        Step(
            "vector cores", demand.qps * store_ms / 1e3 / share, "cores",
            f"{demand.qps:g} questions/s × {store_ms:,.1f} ms / {share:g} use",
        ),
        Step(
            "service cores", demand.qps * service_ms / 1e3 / share, "cores",
            f"{demand.qps:g} questions/s × ({unit.EMBED_MS.value:g} embed + {unit.SERVER_MS.value:g} retriever{answer}) ms "
            f"/ {share:g} use",
        ),
        Step(
            "first ingest", ingest, "cores",
            f"{demand.chunks:,.0f} chunks in {demand.ingest_days:g} days / {unit.INGEST_CHUNKS.value:g} chunks/s a core, "
            "rented for that time",
        ),
    ]  # fmt: skip


def _search_ms(demand: Demand) -> tuple[float, float]:
    """CPU of the dense search and of the search by words, at the measured size."""
    words = unit.WORD_SEARCH_MS.value
    return unit.STORE_MS.value - words, words if demand.search == "hybrid" else 0


def _shard_ms(demand: Demand, chunks: float) -> float:
    """CPU of a search in a shard: the graph's path grows with the logarithm, lists of words with the chunks.

    Below the measured size the graph's cost is taken as measured there.
    """
    dense, words = _search_ms(demand)
    base = unit.BASE_CHUNKS.value
    growth = max(1.0, math.log(chunks) / math.log(base)) * demand.dims / unit.BASE_DIMENSIONS.value
    return dense * growth + words * chunks / base


def _machines(demand: Demand, nodes: Nodes, found: dict[str, Step]) -> list[Step]:
    room_gb = nodes.gb * unit.MEMORY_SHARE.value
    memory, cores = found["memory"].amount, found["vector cores"].amount
    by_memory, by_cores = math.ceil(memory / room_gb), math.ceil(cores / nodes.vcpus)
    services = max(math.ceil(found["service cores"].amount / nodes.vcpus), int(unit.SERVICE_NODES.value))
    steps = [
        Step(
            "vector nodes", max(by_memory, by_cores, demand.replicas), "nodes",
            f"greatest of {memory:,.1f} GB / ({nodes.gb:g} GB × {unit.MEMORY_SHARE.value:g}) = {by_memory}, {cores:,.1f} cores "
            f"/ {nodes.vcpus:g} = {by_cores}, and {demand.replicas} copies",
        ),
        Step(
            "service nodes", services, "nodes",
            f"{found['service cores'].amount:,.1f} cores / {nodes.vcpus:g}, at least {unit.SERVICE_NODES.value:g}",
        ),
    ]  # fmt: skip
    return [*steps, *(_gpus(demand) if demand.model else [])]


def _gpus(demand: Demand) -> list[Step]:
    replica = replica_of(demand)
    prompt, completion = demand.prompt_tokens, demand.completion_tokens
    a, b, c = replica.unit_costs_s()
    seconds = replica.request_s(prompt, completion)
    share = unit.GPU_SHARE.value
    count = math.ceil(demand.qps * seconds / share) * replica.gpus
    name = f"{replica.gpus} × {replica.gpu.upper()}"
    return [
        Step(
            "answer", seconds * 1e3, f"ms of {name}",
            f"{prompt} prompt × {a * 1e6:.3g} µs + {completion} completion × {b * 1e6:.3g} µs + {completion} × ({prompt} + "
            f"{completion} / 2) × {c * 1e9:.3g} ns",
        ),
        Step(
            "GPUs", count, replica.gpu.upper(),
            f"{demand.qps:g} answers/s × {seconds * 1e3:.3g} ms / {share:g} use, up, × {replica.gpus} GPUs a replica",
        ),
    ]  # fmt: skip


def _money(demand: Demand, nodes: Nodes, found: dict[str, Step]) -> list[Step]:
    hours = unit.HOURS.value
    gpu_usd = unit.GPU_USD[demand.gpu].value if nodes.gpu_usd_h is None else nodes.gpu_usd_h
    hourly = [("vector nodes", nodes.usd_h), ("service nodes", nodes.service_usd_h)]
    if demand.model:
        hourly.append(("GPUs", gpu_usd))
    monthly = [("disk", nodes.disk_usd_gb), ("object store", unit.OBJECT_USD.value)]
    parts = [(f"{found[name].amount:,.0f} {name} × {usd:g} USD/h × {hours:g} h", found[name].amount * usd * hours)
             for name, usd in hourly]  # fmt: skip
    parts += [(f"{found[name].amount:,.1f} GB {name} × {usd:g} USD", found[name].amount * usd) for name, usd in monthly]
    cost = sum(usd for _, usd in parts)
    questions = demand.qps * hours * 3600
    steps = [Step("cost", cost, "USD/month", " + ".join(text for text, _ in parts))]
    if questions:
        steps.append(
            Step("cost of 1,000 questions", cost / questions * 1000, "USD",
                 f"cost / ({demand.qps:g} questions/s × {hours:g} h × 3600 s) × 1,000")
        )  # fmt: skip
    return steps


def sources(demand: Demand) -> list[unit.Constant]:
    """What the plan was counted with; the engine's figures, where there is a model, as their source alone."""
    table = [value for value in vars(unit).values() if isinstance(value, unit.Constant)]
    if demand.model is None:
        return table
    rows = len(replica_of(demand).published)
    return [*table, unit.GPU_USD[demand.gpu], unit.Constant(f"{demand.model} on {demand.gpu}", rows, "rows", SOURCE)]
