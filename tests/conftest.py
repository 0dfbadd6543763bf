"""For all rooms: property tests have no time limit an example, which a busy machine would break."""

from hypothesis import HealthCheck, settings

settings.register_profile("murphey", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("murphey")
