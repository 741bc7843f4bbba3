"""What holds for every test."""

from hypothesis import settings

# A time limit for each example fails on a busy machine and finds no fault.
settings.register_profile("distilbench", deadline=None)
settings.load_profile("distilbench")
