"""Opens the models that the settings name: engines in processes of their own, models on other servers, chains of both."""

import re
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path

from generator.breaker import Breaker, BreakerLimits
from generator.chain import Member, ModelChain
from generator.engines.openai.engine import OpenAIEngine
from generator.engines.openai.server import ServerOptions
from generator.engines.triton.engine import TritonEngine
from generator.engines.triton.server import TritonOptions
from generator.host import EngineHost
from generator.launch import engine_launch
from generator.model_settings import REMOTE_ENGINES, ModelSettings
from generator.models import Model, ModelCatalog, ServedModel
from generator.prepare import PreparedModel, prepare, weights_file
from generator.remote import RemoteModel
from generator.settings import GeneratorSettings
from generator.tokens import PromptTokenizer
from mesh import weights
from mesh.admission import Admission, AdmissionLimits
from mesh.errors import InvalidInput


class Opening:
    """What the models of one generator share while they are opened. `changed` is called when one comes up or goes down."""

    def __init__(self, settings: GeneratorSettings, stack: AsyncExitStack, changed: Callable[[], None]) -> None:
        self._settings, self._stack, self._changed = settings, stack, changed
        self._limits = BreakerLimits(settings.breaker_failures, settings.breaker_open_s)
        self.admissions: list[Admission] = []

    async def catalog(self) -> ModelCatalog:
        """All models and chains, the default one first."""
        settings = self._settings
        first = settings.serve_as or model_id(settings.model)
        wanted = {**settings.also, first: settings}
        _check_names(wanted, settings)
        models = {id_: await self._model(id_, one) for id_, one in wanted.items()}
        members = {id_: Member(model, Breaker(f"models/{id_}", self._limits)) for id_, model in models.items()}
        chains = {
            id_: ModelChain(id_, [members[name] for name in names], settings.fallback_after_s)
            for id_, names in settings.fallbacks.items()
        }
        named: dict[str, Model] = {**models, **chains}
        default = settings.default_model or first
        return ModelCatalog([named[default], *(model for id_, model in named.items() if id_ != default)])

    async def _model(self, id_: str, settings: ModelSettings) -> Model:
        return await (self._remote if settings.engine in REMOTE_ENGINES else self._here)(id_, settings)

    async def _here(self, id_: str, settings: ModelSettings) -> ServedModel:
        source = self._source(settings.model)
        prepared = await prepare(source, self._settings.prepared)
        launch = await engine_launch(settings, source, prepared)
        tokenizer = self._tokenizer(prepared)
        host = await self._stack.enter_async_context(EngineHost(launch, self._told))
        assert host.info is not None  # noqa: S101 - the host is open
        return ServedModel(
            id_, host.info, prepared.card.vocabulary_tokens, tokenizer, host,
            self._admission(settings, host.info.kv_cache_tokens),
            settings.max_running_requests, settings.max_pending_tokens,
        )  # fmt: skip

    async def _remote(self, id_: str, settings: ModelSettings) -> RemoteModel:
        prepared = (
            await prepare(self._source(settings.tokenizer), self._settings.prepared) if settings.tokenizer else None
        )
        engine = (self._triton if settings.engine == "triton" else self._openai)(settings, prepared)
        await self._stack.enter_async_context(engine)
        return RemoteModel(
            id_, engine, self._admission(settings, settings.max_pending_tokens),
            (settings.max_running_requests, settings.max_pending_tokens),
            self._tokenizer(prepared) if prepared is not None else None,
            prepared.card.vocabulary_tokens if prepared is not None else None,
        )  # fmt: skip

    def _openai(self, settings: ModelSettings, prepared: PreparedModel | None) -> OpenAIEngine:
        options = ServerOptions(
            settings.model, _key(settings), settings.dialect, settings.connect_timeout_s, settings.silence_timeout_s,
            settings.context_tokens, settings.revision,
        )  # fmt: skip
        return OpenAIEngine(settings.urls, options, self._limits, settings.health_interval_s, self._told)

    def _triton(self, settings: ModelSettings, prepared: PreparedModel | None) -> TritonEngine:
        """Its servers do not tell the model's context: the tokenizer's model does."""
        assert prepared is not None  # noqa: S101 - the settings insist on a tokenizer
        context = min(settings.context_tokens or prepared.card.context_tokens, prepared.card.context_tokens)
        options = TritonOptions(
            settings.model, _key(settings), settings.connect_timeout_s, settings.silence_timeout_s, context,
            settings.revision,
        )  # fmt: skip
        return TritonEngine(settings.urls, options, self._limits, settings.health_interval_s, self._told)

    def _source(self, model: str) -> Path | str:
        return weights_file(weights.resolve(model, self._settings.models))

    def _tokenizer(self, prepared: PreparedModel) -> PromptTokenizer:
        return self._stack.enter_context(closing(PromptTokenizer(prepared)))

    def _admission(self, settings: ModelSettings, running_tokens: int) -> Admission:
        limits = AdmissionLimits(
            settings.max_running_requests, running_tokens, settings.max_pending_tokens,
            settings.max_wait_s, settings.batch_share,
        )  # fmt: skip
        self.admissions.append(Admission(limits))
        return self.admissions[-1]

    def _told(self, _: bool) -> None:
        self._changed()


def _key(settings: ModelSettings) -> str | None:
    return settings.api_key.get_secret_value() if settings.api_key is not None else None


def _check_names(models: dict[str, ModelSettings], settings: GeneratorSettings) -> None:
    """InvalidInput when two have a name, or a name is of none."""
    first = settings.serve_as or model_id(settings.model)
    twice = settings.fallbacks.keys() & models.keys() or settings.also.keys() & {first}
    if twice:
        name = min(twice)
        raise InvalidInput(f"Two models of the generator are called {name}; give one another id.", field="also")
    for chain, names in settings.fallbacks.items():
        unknown = [name for name in names if name not in models]
        if unknown or not names or len(set(names)) < len(names):
            what = f"names {', '.join(unknown)}" if unknown else "names no model" if not names else "names one twice"
            message = f"The chain {chain} {what}; the models are {', '.join(models)}."
            raise InvalidInput(message, field="fallbacks")
    default = settings.default_model
    if default and default not in models and default not in settings.fallbacks:
        known = ", ".join([*models, *settings.fallbacks])
        raise InvalidInput(f"default_model is {default}; the models are {known}.", field="default_model")


def model_id(model: str) -> str:
    """`org/Name` or `/a/folder/Name.gguf` -> `Name`, with what an id cannot hold as `-`."""
    stem = Path(model).name.removesuffix(".gguf")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "model"
