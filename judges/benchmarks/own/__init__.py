"""Benchmarks that a recipe states without code: the user's questions, judge prompt, and how replies are read."""
