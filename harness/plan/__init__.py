"""From a recipe to a graph of stages, with costs and the checks before a run. Imports no torch."""
