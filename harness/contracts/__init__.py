"""The interfaces that plug-ins implement: method, benchmark, judge, model, stage, target; and how options are read."""
