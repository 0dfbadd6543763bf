"""For all rooms: property tests have no time limit an example, which a busy machine would break, and a crash can be told."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("murphey", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("murphey")

os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
"""pyarrow's jemalloc, which nothing uses, has a thread that blocks all signals: a crash there would end the tests silently."""
