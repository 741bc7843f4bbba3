"""Recipes: YAML files that state a whole experiment."""
