"""A cross-encoder judges support where one is set: a tiny one with random weights, made here."""

from pathlib import Path

import pytest

from mesh.channel import open_channel
from mesh.errors import FailedPrecondition
from mesh.server import serving
from murphey.orchestrator.v1.orchestrator_pb2 import AnswerResponse
from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from orchestrator.app import SERVICE, open_service
from orchestrator.attribution import Evidence, Thresholds
from orchestrator.entailment import CrossEncoderEntailment
from orchestrator.settings import OrchestratorSettings
from orchestrator.sources import Source, Span
from tests.orchestrator.conftest import Client
from tests.orchestrator.fakes import FakeMesh

TEXT = "The kiln cools for thirty hours. Nobody opens the door before."
PAIRS = [("the kiln cools", "nobody opens it"), ("the door", "the kiln cools for hours")]


def tiny(folder: Path, labels: dict[int, str]) -> str:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import BertProcessing
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    named = "[PAD] [UNK] [CLS] [SEP] [MASK] the kiln cools nobody opens it door hours"
    words = named.split()
    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    marks = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64, id2label=labels, label2id={name: place for place, name in labels.items()},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
async def test_the_probability_is_that_of_its_label(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tiny(tmp_path / "nli", {0: "contradiction", 1: "entailment", 2: "neutral"})
    entails = CrossEncoderEntailment(folder)
    scores = await entails(PAIRS)
    entails.close()
    batch = AutoTokenizer.from_pretrained(folder)(PAIRS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = AutoModelForSequenceClassification.from_pretrained(folder).cpu()(**batch).logits
    assert scores == pytest.approx(torch.softmax(logits, 1)[:, 1].tolist(), abs=1e-3)


@pytest.mark.slow
def test_a_model_that_cannot_judge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="none of them is entailment"):
        CrossEncoderEntailment(tiny(tmp_path / "other", {0: "bad", 1: "good"}))
    with pytest.raises(FailedPrecondition, match="cannot be loaded"):
        (tmp_path / "empty").mkdir()
        CrossEncoderEntailment(str(tmp_path / "empty"))


async def asked(port: int) -> AnswerResponse:
    async with open_channel(f"127.0.0.1:{port}", SERVICE, idempotent=[]) as channel:
        client = Client(OrchestratorServiceStub(channel), "")
        return await client.answer("Which leader swore fealty to King Charles III?")


@pytest.mark.slow
async def test_the_orchestrator_judges_by_it(mesh: FakeMesh, settings: OrchestratorSettings, tmp_path: Path) -> None:
    folder = tiny(tmp_path / "nli", {0: "contradiction", 1: "entailment", 2: "neutral"})
    mesh.generator.script = ["Rollo swore fealty to King Charles III."]
    for minimum, supported in ((0.0, True), (1.0, False)):
        own = settings.model_copy(update={"entailment_model": folder, "minimum_entailment": minimum})
        async with open_service(own) as hosted, serving(own, hosted) as port:
            answer = await asked(port)
        sentence = answer.finish.sentences[0]
        assert (sentence.supported, 0 < sentence.score < 1) == (supported, True)
    wrong = settings.model_copy(update={"entailment_model": str(tmp_path / "nowhere")})
    with pytest.raises(FailedPrecondition, match="cannot be loaded"):
        async with open_service(wrong):
            pass


@pytest.mark.parametrize(("probability", "supported"), [(0.9, True), (0.4, False)])
async def test_the_model_decides_in_place_of_words(probability: float, supported: bool) -> None:
    asked: list[tuple[str, str]] = []

    async def entails(pairs: list[tuple[str, str]]) -> list[float]:
        asked.extend(pairs)
        return [probability] * len(pairs)

    async def embed(texts: object) -> list[list[float]]:
        raise AssertionError("nothing is embedded where a model judges")

    source = Source(1, "d", "v", "kiln.txt", TEXT, Span(0, len(TEXT)), 0, (), 1.0, ("c",))
    evidence = Evidence([source], "How long does it cool?", embed, Thresholds(), entails)  # pyright: ignore[reportArgumentType]
    judged = await evidence.judge("The kiln cools for a day.")
    assert asked[0] == ("The kiln cools for thirty hours.", "The kiln cools for a day.")
    assert judged.score == probability
    assert (judged.support is not None) == supported
