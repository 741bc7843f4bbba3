"""Judges compared: agreement, rankings, biases, cost. Pure statistics over one frame of judgments; no torch.
``compare_panel`` of a ``run_panel`` or ``annotation_panel``; what each number means: ``docs/compare-judges.md``."""
