"""Every unit cost that a plan counts with, in one table, each with where it comes from. Prices are lists to be replaced.

What is measured was measured by bench/ on two cores of an Intel Xeon with AVX-512 VNNI and the default embedder
(all-minilm-l6-v2, 384 dimensions); bench/README.md says how. A vCPU of a node is counted as one such core.
"""

from dataclasses import dataclass

BENCH = "measured: bench/README.md, 2026-11-23"
WORDS_BENCH = "measured: python -m bench words, 2026-11-23"
QDRANT = "Qdrant, documentation/guides/capacity-planning"
ASSUMED = "assumption"
PRICED = "AWS list price, us-east-1, on demand, Linux"


@dataclass(frozen=True)
class Constant:
    """A unit cost: what it is of, in which unit, and who says so."""

    name: str
    value: float
    unit: str
    source: str


FLOAT_BYTES = Constant("number of a vector", 4, "bytes", "float32")
SCALAR_BYTES = Constant("number of a vector, scalar quantization", 1, "bytes", "int8")
BINARY_BYTES = Constant("number of a vector, binary quantization", 1 / 8, "bytes", "1 bit")
MEMORY_FACTOR = Constant(
    "memory and disk beside the data", 1.5, "×", f"{QDRANT}: indexes, point versions, segments being rebuilt"
)
GRAPH_BYTES = Constant(
    "HNSW links of a chunk",
    136,
    "bytes",
    "m = 16, Qdrant's default: 32 links at the ground, 2 above on average, 4 bytes each",
)
WORDS = Constant(
    "different words of a chunk",
    54,
    "words",
    f"{WORDS_BENCH}: windows of 700 characters, stop words left out",
)
WORD_BYTES = Constant("posting of a word", 12, "bytes", "Qdrant's sparse index: id, weight, greatest weight to come")
STORED_WORD_BYTES = Constant("word as it is stored, on disk", 8, "bytes", "Qdrant's sparse vector: hash and weight")
PAYLOAD_BYTES = Constant(
    "fields of a chunk beside its text, on disk", 880, "bytes",
    f"{WORDS_BENCH}: JSON and the indexes of its fields, with what Qdrant allocates ahead",
)  # fmt: skip
TEXT_COPIES = Constant(
    "copies of a text in the object store", 2, "×", "ingest keeps the raw document and its parsed text"
)

BASE_CHUNKS = Constant("collection that was measured", 100_000, "chunks", BENCH)
BASE_DIMENSIONS = Constant("dimensions that were measured", 384, "dimensions", BENCH)
EMBED_MS = Constant("CPU of embedding a question", 1.9, "ms", BENCH)
SERVER_MS = Constant("CPU of a search in the retriever's server", 1.7, "ms", BENCH)
STORE_MS = Constant("CPU of a hybrid search in the store, at the measured size", 1.7, "ms", BENCH)
WORD_SEARCH_MS = Constant(
    "of it, the search by words",
    1.1,
    "ms",
    f"{WORDS_BENCH}: 1.18 ms at 10,000 chunks, 1.50 at 40,000; in proportion to the chunks, an upper bound for large "
    "shards, whose lists Qdrant may prune",
)
ANSWER_MS = Constant(
    "CPU of orchestrator, gateway and hops an answer",
    8.2,
    "ms",
    f"{BENCH}: time added to the first token, an upper bound",
)
INGEST_CHUNKS = Constant(
    "chunks that a core ingests", 44, "chunks/s", f"{BENCH}: 88 on two cores, embedding on the CPU"
)
SHARD_CHUNKS = Constant(
    "largest shard", 20_000_000, "chunks", f"{ASSUMED}: a rebuilt segment stays small beside a node"
)

CPU_SHARE = Constant(
    "use of cores at the planned load", 0.6, "×", f"{ASSUMED}: room for peaks and for the loss of a node"
)
MEMORY_SHARE = Constant("use of a node's memory", 0.8, "×", f"{ASSUMED}: the rest is the system's and its page cache's")
GPU_SHARE = Constant(
    "use of GPUs at the planned load", 0.7, "×", f"{ASSUMED}: published rates are those of full queues"
)
SERVICE_NODES = Constant("least nodes of services", 2, "nodes", f"{ASSUMED}: one may fail")

NODE_GB = Constant("memory of a node", 256, "GB", "memory-optimized, such as r7g.8xlarge")
NODE_VCPUS = Constant("cores of a node", 32, "vCPUs", "r7g.8xlarge and m7g.8xlarge: a vCPU is a core")
NODE_USD = Constant("vector node", 1.7136, "USD/h", f"{PRICED}: r7g.8xlarge; not looked up anew, set --node-usd-h")
SERVICE_NODE_USD = Constant(
    "service node", 1.3056, "USD/h", f"{PRICED}: m7g.8xlarge, 16 × m7g.large of June 2026; set --service-node-usd-h"
)
DISK_USD = Constant("SSD", 0.08, "USD/GB/month", f"{PRICED}: gp3; not looked up anew, set --disk-usd-gb")
OBJECT_USD = Constant("object store", 0.023, "USD/GB/month", f"{PRICED}: S3 standard; not looked up anew")
GPU_USD = {
    "h100": Constant("H100", 6.88, "USD/h", f"{PRICED}: p5.48xlarge / 8 on 2026-11-09; set --gpu-usd-h"),
    "h200": Constant("H200", 7.91, "USD/h", f"{PRICED}: p5en.48xlarge / 8; not looked up anew, set --gpu-usd-h"),
}
HOURS = Constant("month", 730, "h", "365 × 24 / 12")
