"""Tables and figures, made from results alone: imports ``results`` and ``harness``, and nothing here loads torch."""
