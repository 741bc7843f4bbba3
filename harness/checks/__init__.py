"""Contract checks: what ``distilbench check-method``, ``check-benchmark``, ``check-judge``, ``check-source``,
``check-backend`` and ``check-executor`` run, and the contract suites of the tests. They know no entry by name."""
