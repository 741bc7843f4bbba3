"""``distilbench view``: runs in a local browser, while they run and after. Nothing is written, and nothing is run."""
