"""AlpacaEval 2: pairwise verdicts against a baseline, plain and length-controlled win rates."""
