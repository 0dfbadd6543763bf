"""What every engine must do, with the real default model; and transformers with a tiny checkpoint made here.

The transformers engine runs on the CPU, and once more on CUDA where there is a device.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from tokenizers import Tokenizer

from generator.engines.base import Engine, EngineRequest, NewTokens, Refused
from generator.launch import engine_launch
from generator.prepare import PreparedModel, prepare, weights_file
from generator.requests import FinishReason, Guidance, Sampling
from generator.settings import GeneratorSettings
from generator.worker import open_engine
from mesh import weights
from mesh.settings import default_models_folder

pytestmark = pytest.mark.slow

ENGINES = [("openvino", "cpu"), ("transformers", "cpu")]
if Path("/dev/nvidiactl").exists():
    ENGINES.append(("transformers", "cuda"))
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
STORY = CHAT.format("Write a story about a cat and a dog in the city.")
QUESTION = CHAT.format("What is the capital of France?")


class Loaded:
    """An engine in this process, and its tokenizer."""

    def __init__(self, engine: Engine, model: PreparedModel) -> None:
        self.engine, self.ids = engine, 0
        self.tokenizer = Tokenizer.from_file(str(model.tokenizer))

    def request(self, text: str, max_tokens: int = 24, sampling: Sampling | None = None) -> EngineRequest:
        """A request with a new id."""
        self.ids += 1
        prompt = tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)
        return EngineRequest(self.ids, prompt, max_tokens, sampling or Sampling())

    def run(self, *requests: EngineRequest) -> list[tuple[list[int], FinishReason | None]]:
        """All requests together, to their ends; others that run already go on beside them."""
        tokens: dict[int, list[int]] = {request.id: [] for request in requests}
        finish: dict[int, FinishReason | None] = {}
        for request in requests:
            assert self.engine.add(request) is None
        while self.engine.busy:
            for new in self.engine.step():
                assert isinstance(new, NewTokens), new
                assert new.request_id not in finish
                if new.request_id not in tokens:
                    continue
                tokens[new.request_id] += new.tokens
                if new.finish is not None:
                    finish[new.request_id] = new.finish
        return [(tokens[request.id], finish[request.id]) for request in requests]

    def text(self, request: EngineRequest) -> str:
        """One request's text."""
        return self.tokenizer.decode(self.run(request)[0][0])


async def _load(settings: GeneratorSettings) -> Loaded:
    source = weights_file(weights.resolve(settings.model, settings.models))
    model = await prepare(source, settings.prepared)
    return Loaded(open_engine(await engine_launch(settings, source, model)), model)


@pytest.fixture(scope="module")
def models() -> Path:
    """Where `murphey models pull` left the default model, or fetches it now."""
    folder = Path(os.environ.get("MURPHEY_MODELS") or default_models_folder())
    weights.pull("smollm2-135m-instruct", folder)
    return folder


@pytest.fixture(scope="module", params=ENGINES, ids="-".join)
def loaded(request: pytest.FixtureRequest, models: Path) -> Iterator[Loaded]:
    import asyncio

    engine, device = request.param
    made = asyncio.run(_load(GeneratorSettings(models=models, engine=engine, device=device, kv_cache_gb=0.3)))
    yield made
    with suppress(AttributeError):
        cast("Any", made.engine).close()


def test_a_question_is_answered_and_ends_by_itself(loaded: Loaded) -> None:
    ((tokens, finish),) = loaded.run(loaded.request(QUESTION))
    assert "Paris" in loaded.tokenizer.decode(tokens)
    assert finish is FinishReason.STOP


def test_max_tokens_is_exact(loaded: Loaded) -> None:
    ((tokens, finish),) = loaded.run(loaded.request(QUESTION, max_tokens=3))
    assert (len(tokens), finish) == (3, FinishReason.LENGTH)


def test_together_is_as_alone(loaded: Loaded) -> None:
    questions = [CHAT.format(f"What is the capital of {country}?") for country in ("France", "Italy", "Spain", "Japan")]
    alone = [loaded.text(loaded.request(question, 6)) for question in questions]
    together = loaded.run(*(loaded.request(question, 6) for question in questions))
    assert [loaded.tokenizer.decode(tokens) for tokens, _ in together] == alone


def test_the_same_prompt_again_gives_the_same(loaded: Loaded) -> None:
    long = CHAT.format("Lisbon is a city by the sea. " * 40 + "Which city is by the sea?")
    assert loaded.text(loaded.request(long)) == loaded.text(loaded.request(long))  # the second from the prefix cache


def test_a_prompt_longer_than_a_step_is_split_while_others_decode(loaded: Loaded) -> None:
    short = loaded.request(CHAT.format("Count to fifty."), 40)
    loaded.engine.add(short)
    while not loaded.engine.step():
        pass
    ((tokens, finish),) = loaded.run(loaded.request("word " * 700, 4))
    assert (len(tokens), finish) == (4, FinishReason.LENGTH)


def test_a_cancelled_request_brings_nothing_more(loaded: Loaded) -> None:
    request = loaded.request(CHAT.format("Tell me a long story."), 200)
    loaded.engine.add(request)
    while not loaded.engine.step():
        pass
    loaded.engine.cancel(request.id)
    loaded.engine.cancel(request.id)
    assert not [new for _ in range(3) for new in loaded.engine.step()]
    assert not loaded.engine.busy


def test_a_stop_token_ends_it(loaded: Loaded) -> None:
    full_stop: int = cast("int", loaded.tokenizer.token_to_id("."))
    sampling = Sampling(stop_token_ids=(full_stop,))
    ((tokens, finish),) = loaded.run(loaded.request(CHAT.format("Tell me a long story."), 200, sampling))
    assert (tokens[-1], finish) == (full_stop, FinishReason.STOP)


def test_sampling_varies_and_a_seed_repeats(loaded: Loaded) -> None:
    def say(seed: int | None) -> str:
        sampling = Sampling(temperature=1.5, top_p=0.99, seed=seed)
        return loaded.text(loaded.request(CHAT.format("Invent a name."), 16, sampling))

    assert len({say(None) for _ in range(4)}) > 1
    assert say(7) == say(7)
    assert len({say(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize("limit", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 0.999}])
def test_a_limit_that_leaves_one_token_makes_sampling_greedy(loaded: Loaded, limit: dict[str, float]) -> None:
    sampling = Sampling(temperature=2.0, **cast("Any", limit))
    assert loaded.text(loaded.request(STORY, 12, sampling)) == loaded.text(loaded.request(STORY, 12))


@pytest.mark.parametrize("penalty", ["repetition_penalty", "presence_penalty", "frequency_penalty"])
def test_penalties_make_tokens_vary(loaded: Loaded, penalty: str) -> None:
    plain = loaded.run(loaded.request(STORY, 60))[0][0]
    varied = loaded.run(loaded.request(STORY, 60, Sampling(**cast("Any", {penalty: 2.0}))))[0][0]
    assert len(set(varied)) > len(set(plain))


def test_it_cannot_end_before_min_tokens(loaded: Loaded) -> None:
    full_stop = cast("int", loaded.tokenizer.token_to_id("."))
    sampling = Sampling(min_tokens=30, stop_token_ids=(full_stop,))
    ((tokens, _),) = loaded.run(loaded.request(QUESTION, 60, sampling))
    assert len(tokens) >= 30
    assert full_stop not in tokens[:29]


def test_bad_words_never_show(loaded: Loaded) -> None:
    words = ("Paris", "aris", " the", "é")
    assert "Paris" in loaded.text(loaded.request(QUESTION))
    texts = [
        loaded.text(loaded.request(prompt, 40, Sampling(temperature=temperature, bad_words=words)))
        for prompt in (QUESTION, STORY)
        for temperature in (None, 1.5)
    ]
    assert all(texts)
    assert not [word for text in texts for word in words if word in text]


def test_bad_words_and_a_form_are_both_kept_to_or_refused(loaded: Loaded) -> None:
    sampling = Sampling(guidance=Guidance("regex", "(yes|no)"), bad_words=("y",))
    request = loaded.request(CHAT.format("Is water wet?"), 8, sampling)
    if loaded.engine.info.name == "openvino":
        refused = loaded.engine.add(request)
        assert refused is not None
        assert refused.field == "sampling.bad_words"
    else:
        assert loaded.text(request) == "no"


def test_what_is_found_in_the_prefix_cache_is_counted(loaded: Loaded) -> None:
    cached: list[int] = []
    for question in ("Where is it?", "Who lives there?"):
        text = CHAT.format("Porto lies at the mouth of the Douro. " * 30 + question)
        request = loaded.request(text, 2)
        loaded.engine.add(request)
        news: list[NewTokens] = []
        while loaded.engine.busy:
            news += cast("list[NewTokens]", loaded.engine.step())
        assert {new.cached_prompt_tokens for new in news} == {news[-1].cached_prompt_tokens}
        cached.append(news[-1].cached_prompt_tokens)
    if loaded.engine.info.name == "openvino":  # its library does not say
        assert cached == [0, 0]
    else:
        assert cached[0] < 32  # the beginning that all chats share is less than a page
        assert 200 < cached[1] < len(loaded.request(text).prompt)


def test_guidance_shapes_the_answer_and_a_bad_form_harms_no_other(loaded: Loaded) -> None:
    form = Sampling(guidance=Guidance("regex", "(yes|no)"))
    assert loaded.text(loaded.request(CHAT.format("Is water wet?"), 8, form)) in ("yes", "no")
    other = loaded.request(QUESTION)
    loaded.engine.add(other)
    bad = loaded.request(QUESTION, 8, Sampling(guidance=Guidance("grammar", 'root = = "x')))
    news = [refused] if (refused := loaded.engine.add(bad)) else []
    while loaded.engine.busy:
        news += loaded.engine.step()
    (refused,) = (new for new in news if isinstance(new, Refused))
    assert (refused.request_id, refused.field) == (bad.id, "sampling.guidance.grammar")
    assert [new.finish for new in news if isinstance(new, NewTokens) and new.finish] == [FinishReason.STOP]


@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
async def test_transformers_runs_any_checkpoint(tmp_path: Path, models: Path, quantization: str) -> None:
    _tiny_llama(tmp_path / "tiny", await _tokenizer_of(models))
    settings = GeneratorSettings(models=tmp_path, model=str(tmp_path / "tiny"), kv_cache_gb=0.01, dtype="float32")
    made = await _load(settings.model_copy(update={"quantization": quantization}))
    assert made.engine.info.name == "transformers"
    assert made.engine.info.context_tokens == 64
    ((tokens, finish),) = made.run(made.request("a b c", 5))
    assert 1 <= len(tokens) <= 5
    assert finish in (FinishReason.LENGTH, FinishReason.STOP)
    cast("Any", made.engine).close()


async def _tokenizer_of(models: Path) -> PreparedModel:
    return await prepare(weights_file(models / "smollm2-135m-instruct"), GeneratorSettings(models=models).prepared)


def _tiny_llama(folder: Path, tokenizer: PreparedModel) -> None:
    """Random weights: 2 layers, 64 positions."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.card.vocabulary_tokens, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_file=str(tokenizer.tokenizer), eos_token="<|im_end|>").save_pretrained(folder)  # noqa: S106
