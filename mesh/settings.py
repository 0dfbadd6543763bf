"""Settings: default < murphey.toml < MURPHEY_* environment < flag. Nothing is read at import.

Every service derives one frozen class from `ServiceSettings`. Its `service` names its section in murphey.toml and its
prefix in the environment: `[retriever] store = "server"` or `MURPHEY_RETRIEVER_STORE=server`. What all services share
(`data`, `models`, `host`, logging, telemetry) may also stand in the section `[mesh]` or after the bare prefix `MURPHEY_`.
"""

import ipaddress
import os
import tomllib
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mesh.errors import InvalidInput

SHARED_FIELDS = (
    "data", "models", "host", "log_level", "log_format", "otlp_endpoint", "drain_s", "auth", "keys_database_url",
    "internal_key_file", "tls_certificate", "tls_key", "tls_client_ca", "tls_ca", "metrics_host",
)  # fmt: skip
SECTIONS = ("mesh", "generator", "ingest", "orchestrator", "retriever")
"""Of murphey.toml."""
BAD_SETTINGS = 2
"""The exit code of a service whose settings are wrong: to start it again would change nothing."""


def default_models_folder() -> Path:
    """Weights are a cache that all data folders of a user share."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "murphey" / "models"


class _TomlSource(PydanticBaseSettingsSource):
    """The service's section of murphey.toml over its section [mesh]."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError  # __call__ answers for all fields at once

    def __call__(self) -> dict[str, Any]:
        path = Path(os.environ.get("MURPHEY_CONFIG", "murphey.toml"))
        if not path.is_file():
            return {}
        try:
            document = tomllib.loads(path.read_text())
        except tomllib.TOMLDecodeError as error:
            raise InvalidInput(f"{path} is not valid TOML: {error}") from error
        _check_document(document, path)
        service = getattr(self.settings_cls, "service", "mesh")
        return document.get("mesh", {}) | document.get(service, {})


def _check_document(document: dict[str, Any], path: Path) -> None:
    """InvalidInput for what no service would ever read. A service's own section is checked with its settings."""
    for name, section in document.items():
        if name not in SECTIONS or not isinstance(section, dict):
            raise InvalidInput(f"{path} has {name!r}, which is no section; the sections are {', '.join(SECTIONS)}.")
    for key in document.get("mesh", {}):
        if key not in SHARED_FIELDS:
            raise InvalidInput(
                f"{path} sets {key!r} in [mesh], which is not for all services; those are {', '.join(SHARED_FIELDS)}."
            )


class _SharedEnvironment(PydanticBaseSettingsSource):
    """MURPHEY_DATA and the like."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError  # __call__ answers for all fields at once

    def __call__(self) -> dict[str, Any]:
        names = {field: f"MURPHEY_{field.upper()}" for field in SHARED_FIELDS}
        return {field: os.environ[name] for field, name in names.items() if name in os.environ}


class ServiceSettings(BaseSettings):
    """What every service can be told."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", cli_kebab_case=True, cli_avoid_json=True)

    service: ClassVar[str] = "mesh"

    data: Path = Field(default=Path(".murphey"), description="Folder that holds all state.")
    models: Path = Field(default_factory=default_models_folder, description="Folder of downloaded models.")
    host: str = Field(
        default="127.0.0.1", description="Address to listen on. Only loopback unless TLS and auth are set."
    )
    port: int = Field(default=0, ge=0, le=65535, description="gRPC port; 0 takes a free one.")
    metrics_port: int | None = Field(default=None, ge=0, le=65535, description="Prometheus port; none by default.")
    metrics_host: str = Field(
        default="127.0.0.1", description="Address of the metrics, which are given to anyone who reaches it."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that is logged."
    )
    log_format: Literal["json", "console"] = Field(default="json", description="For programs, or for people.")
    otlp_endpoint: str | None = Field(default=None, description="Where traces go, such as http://localhost:4317.")
    drain_s: float = Field(default=10.0, ge=0, description="Seconds that running calls get when the service stops.")
    auth: Literal["off", "keys"] = Field(
        default="off", description="Whom calls are taken from: anyone, or who has an API key (`murphey keys`)."
    )
    keys_database_url: str = Field(
        default="",
        description="Database of the API keys, for all services the same; by default SQLite in the data folder.",
    )
    internal_key_file: Path | None = Field(
        default=None,
        description="File with the secret by which the services know each other; by default made in the data folder.",
    )

    tls_certificate: Path | None = Field(
        default=None, description="PEM file of the certificate chain; read again when it changes. None: no TLS."
    )
    tls_key: Path | None = Field(default=None, description="PEM file of the certificate's key, not encrypted.")
    tls_client_ca: Path | None = Field(
        default=None,
        description="PEM file of the authority of which every caller must show a certificate. None: no need.",
    )
    tls_ca: Path | None = Field(
        default=None,
        description="PEM file of the authority of the services that are called. None: they are called in plain.",
    )

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together: set both or neither.")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca asks callers for certificates, which needs tls_certificate and tls_key.")
        if not is_loopback(self.host) and (self.tls_certificate is None or self.auth == "off"):
            raise ValueError(
                f"host: {self.host} is not a loopback address. Without TLS and authentication Murphey listens on loopback "
                'only: use 127.0.0.1, ::1 or localhost, or set auth = "keys", tls_certificate and tls_key.'
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _SharedEnvironment(settings_cls), _TomlSource(settings_cls)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.model_config["env_prefix"] = f"MURPHEY_{cls.service.upper()}_"

    @classmethod
    def from_flags(cls, arguments: list[str]) -> Self:
        """Reads `--port 7001` and the like over all other sources; `--help` prints them and exits."""
        return cls(_cli_parse_args=arguments, _cli_prog_name=f"python -m {cls.service}")  # pyright: ignore[reportCallIssue]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def of_mesh(data: Path) -> ServiceSettings:
    """What is set for all services, for a command. InvalidInput when it is wrong."""
    try:
        return ServiceSettings(data=data)
    except ValidationError as error:
        raise InvalidInput(problems(error)) from error


def problems(error: ValidationError) -> str:
    """What is wrong with settings, a line each."""
    places = [".".join(str(part) for part in item["loc"]) for item in error.errors()]
    lines = [
        f"{place}: {item['msg']}" if place else item["msg"] for place, item in zip(places, error.errors(), strict=True)
    ]
    return "the settings are wrong.\n  " + "\n  ".join(lines)
