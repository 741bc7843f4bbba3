"""What holds for every test."""

from hypothesis import HealthCheck, settings

# A limit of time, for an example or for drawing one, fails on a busy machine and finds no fault.
settings.register_profile("distilbench", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("distilbench")
