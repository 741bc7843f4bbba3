"""What a run leaves behind: the store, the run's record, the paper's numbers. Imports ``harness`` only; no torch."""
