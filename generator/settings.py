"""The generator's settings: its model, the models beside it, and the chains that models make."""

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from generator.model_settings import ModelSettings
from mesh.names import resource_id
from mesh.settings import ServiceSettings


class GeneratorSettings(ServiceSettings, ModelSettings):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Defaults serve a small real model on a CPU."""

    service: ClassVar[str] = "generator"

    serve_as: str = Field(default="", description="The model's id in `models/{id}`; the default is made from `model`.")
    also: dict[str, ModelSettings] = Field(
        default_factory=dict, description="More models by their ids, each with the settings that `model` has."
    )
    fallbacks: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="Chains by their ids: the models that are asked one after the other until one answers.",
    )
    default_model: str = Field(
        default="", description="The model or chain that answers when none is named; the default is `model`."
    )
    fallback_after_s: float = Field(
        default=30.0, gt=0, description="A model of a chain that has said nothing for so long is left for the next."
    )
    breaker_failures: int = Field(
        default=5, ge=1, description="Failures in a row after which a model or server is left alone for a while."
    )
    breaker_open_s: float = Field(
        default=5.0, gt=0, description="How long, the first time; twice as long each time on."
    )

    @property
    def prepared(self) -> Path:
        """Where tokenizers and templates of models are kept."""
        return self.models / ".prepared"

    @model_validator(mode="after")
    def _names_are_ids(self) -> Self:
        for name in (*self.also, *self.fallbacks):
            resource_id(f"models/{name}", "models")
        return self
