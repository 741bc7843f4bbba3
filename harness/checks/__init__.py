"""``distilbench check-method``: a method tried on tiny models before it is used."""
