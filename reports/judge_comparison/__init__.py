"""Judges compared: agreement, rankings, biases, cost. Pure statistics over one frame of judgments; no torch.

    panel = run_panel(passes, profiles, questions, store, target)      # or annotation_panel([Path("annotations.json")])
    comparison = compare_panel(panel, seed=0)
    write_comparison(comparison, Path("runs/pocket/report"))

What each number means and where it is from: ``docs/compare-judges.md``.
"""
