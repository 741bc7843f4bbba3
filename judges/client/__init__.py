"""Asks judges: concurrency, retries, budgets, batch jobs."""
