"""Benchmark preference distillation: reproduce a table, evaluate models, compare judges."""
