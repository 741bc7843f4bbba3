"""Searching the options of methods on development questions (``docs/search.md``)."""

from distilbench.searching.run import FinishedSearch, Search, SearchOptions, plan_search, run_search, search

__all__ = ["FinishedSearch", "Search", "SearchOptions", "plan_search", "run_search", "search"]
