"""Contract checks: what the commands ``distilbench check-...`` and the contract suites of the tests run."""
