"""Fixtures that tests of scripts share with the tests of the benchmarks."""

from tests.judges.conftest import assets

__all__ = ["assets"]
