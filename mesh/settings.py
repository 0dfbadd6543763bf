"""Settings: default < murphey.toml < MURPHEY_* environment < flag. Nothing is read at import.

Every service derives one frozen class from `ServiceSettings`. Its `service` names its section in murphey.toml and its
prefix in the environment: `[retriever] store = "server"` or `MURPHEY_RETRIEVER_STORE=server`. What all services share
(`data`, `models`, `host`, logging, telemetry) may also stand in the section `[mesh]` or after the bare prefix `MURPHEY_`.
"""

import ipaddress
import json
import os
import tomllib
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mesh.access.quota_settings import UNBOUNDED, Quota, check_tenants, quota_of
from mesh.errors import InvalidInput

SHARED_FIELDS = (
    "data", "models", "host", "log_level", "log_format", "otlp_endpoint", "drain_s", "auth", "keys_database_url",
    "internal_key_file", "tls_certificate", "tls_key", "tls_client_ca", "tls_ca", "metrics_host", "jwt_issuer",
    "jwks_url", "jwt_audience", "jwt_algorithms", "jwt_leeway_s", "jwt_tenant_claim", "jwt_scopes_claim",
    "jwt_scope_prefix", "quotas", "audit_log", "audit_log_mib",
)  # fmt: skip
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Of signatures by a private key: whoever can check one cannot make one."""
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

    jwt_issuer: str = Field(
        default="",
        description="Beside API keys, JSON Web Tokens of this issuer are taken (`iss`), such as https://login.example.org.",
    )
    jwks_url: str = Field(
        default="", description="Where the issuer's public keys are; by default it is asked for that (OpenID Connect)."
    )
    jwt_audience: str = Field(
        default="", description="What this mesh is called in the tokens' `aud`; needed with an issuer."
    )
    jwt_algorithms: tuple[Algorithm, ...] = Field(
        default=("RS256", "ES256"), min_length=1, description="Algorithms in which tokens may be signed."
    )
    jwt_leeway_s: float = Field(default=30.0, ge=0, le=300, description="How far the issuer's clock may be off.")
    jwt_tenant_claim: str = Field(
        default="tenant",
        description="The claim that names the tenant, such as `org.id`; empty: all are the default tenant's.",
    )
    jwt_scopes_claim: str = Field(
        default="scope", description="The claim with the scopes: a list, or names separated by blanks."
    )
    jwt_scope_prefix: str = Field(
        default="", description="What stands before `read`, `write` and `admin` there, such as `murphey:`."
    )

    quotas: dict[str, Quota] = Field(
        default={},
        description="How much tenants may ask for and keep, by tenant, `*` for everybody: requests_per_s, burst_requests, "
        "tokens_per_minute, storage_mib and documents; 0 is no bound.",
    )

    audit_log: Literal["file", "log"] = Field(
        default="file",
        description="Where it is written down who changed what and who was refused: to a file in the data folder, or, as "
        "where pods lose theirs, among the other lines on stderr.",
    )
    audit_log_mib: int = Field(default=100, ge=0, description="Most that a service's audit log takes; 0 writes none.")

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
        if self.quotas and self.auth == "off":
            raise ValueError('quotas are of tenants, whom auth = "off" cannot tell apart: set auth = "keys".')
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

    @field_validator("quotas", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("quotas")
    @classmethod
    def _of_tenants(cls, quotas: dict[str, Quota]) -> dict[str, Quota]:
        return dict(check_tenants(quotas))

    def quota_of(self, tenant: str) -> Quota:
        """How much a tenant may ask for and keep; without bounds where nobody is asked who he is."""
        return UNBOUNDED if self.auth == "off" else quota_of(self.quotas, tenant)

    @model_validator(mode="after")
    def _issuer_is_safe(self) -> Self:
        if not self.jwt_issuer:
            if self.jwks_url or self.jwt_audience:
                raise ValueError("jwks_url and jwt_audience are of the issuer that jwt_issuer names: set that too.")
            return self
        if self.auth == "off":
            raise ValueError('jwt_issuer says whose tokens are taken, but auth = "off" asks nobody: set auth = "keys".')
        if not self.jwt_audience:
            raise ValueError("jwt_issuer needs jwt_audience: without it any token of that issuer would be taken.")
        for name, url in (("jwks_url", self.jwks_url), ("jwt_issuer", "" if self.jwks_url else self.jwt_issuer)):
            if url and not is_safe_url(url):
                raise ValueError(f"{name}: {url} must begin with https://, unless it is on this machine.")
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


def is_safe_url(url: str) -> bool:
    """Whether nobody on the way can exchange what is read there: https, or this machine."""
    parts = urlsplit(url)
    if not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))


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
