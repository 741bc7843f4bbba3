"""Judges compared: agreement, rankings, biases, cost. Pure statistics over verdicts; nothing here loads torch.

    panel = load_panel(Path("runs/pocket"), store)      # or read_annotations([Path("annotations.json")])
    comparison = compare(panel, seed=0)
    write_comparison(comparison, Path("runs/pocket/report"))

What each number means and where it is from: ``docs/compare-judges.md``.
"""
