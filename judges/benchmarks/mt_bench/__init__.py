"""MT-Bench: single ratings of two turns, and the pairwise protocol."""
