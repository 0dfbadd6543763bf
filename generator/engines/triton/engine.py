"""The `triton` engine: one model on one or several Triton servers. They take text: the chat template is applied here."""

from collections.abc import Callable, Sequence

from generator.breaker import Breaker, BreakerLimits
from generator.engines.fleet import Fleet, warn_of_clear_keys
from generator.engines.triton.server import TritonOptions, TritonServer


class TritonEngine(Fleet):
    """See `fleet.Fleet`."""

    def __init__(
        self,
        urls: Sequence[str],
        options: TritonOptions,
        limits: BreakerLimits,
        look_every_s: float,
        tell_ready: Callable[[bool], None] = lambda ready: None,
    ) -> None:
        warn_of_clear_keys(urls, options.api_key)
        servers = [TritonServer(url, options, Breaker(url, limits)) for url in urls]
        super().__init__("triton", servers, look_every_s, tell_ready, takes_chat=False)
