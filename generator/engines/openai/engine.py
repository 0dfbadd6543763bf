"""The `openai` engine: one model on one or several OpenAI-compatible servers."""

from collections.abc import Callable, Sequence

from generator.breaker import Breaker, BreakerLimits
from generator.engines.fleet import Fleet, warn_of_clear_keys
from generator.engines.openai.server import Server, ServerOptions


class OpenAIEngine(Fleet):
    """See `fleet.Fleet`."""

    def __init__(
        self,
        urls: Sequence[str],
        options: ServerOptions,
        limits: BreakerLimits,
        look_every_s: float,
        tell_ready: Callable[[bool], None] = lambda ready: None,
    ) -> None:
        warn_of_clear_keys(urls, options.api_key)
        servers = [Server(url, options, Breaker(url, limits)) for url in urls]
        super().__init__("openai", servers, look_every_s, tell_ready)
