"""Engines: backends whose models run in a server that distilbench starts, one file each, and what they share."""
