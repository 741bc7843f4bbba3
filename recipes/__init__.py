"""The shipped recipes: one YAML file each, looked up by name. `distilbench list recipes` shows them."""
